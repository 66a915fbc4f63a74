"""GET /docs: Swagger UI on the service's own OpenAPI document, from files of ours: it works where no CDN is reached."""

from __future__ import annotations

from importlib.resources import as_file, files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

# whatever the page's scripts might want to load, it comes from us or not at all
CSP = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


def serve_docs(app: FastAPI) -> None:
    """Add /docs and its assets. Its links are relative, so that a proxy may put a prefix before it."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        oauth2_redirect_url=None,
        swagger_js_url="docs/assets/swagger-ui-bundle.js",
        swagger_css_url="docs/assets/swagger-ui.css",
        swagger_favicon_url="data:,",
    ).body

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(bytes(page), headers={"content-security-policy": CSP})

    with as_file(files("fastapi_offline") / "static") as assets:
        app.mount("/docs/assets", StaticFiles(directory=assets))
