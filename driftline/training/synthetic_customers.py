"""Customers of a French subscription service with five features and a label: data for the spec churn5.toml.

The data is of no real person: every value is drawn from the distributions below. They are chosen for plausible shapes
(long-tailed ages of contracts, few complaints for most, prices that grow with products) and fitted to no population.
"""

from __future__ import annotations

import csv
import io

import numpy as np

COLUMNS = (
    "client_id",
    "anciennete_mois",
    "montant_mensuel",
    "nb_reclamations",
    "nb_produits",
    "satisfaction",
    "resiliation",
)
UNANSWERED = 0.06  # share of customers who never answered the survey


def generate_customers(rows: int, seed: int) -> str:
    """Return `rows` customers as CSV text with a header; the same text for the same arguments.

    anciennete_mois: 0 to 180 whole months. montant_mensuel: EUR with two decimals, above 5. nb_reclamations: 0 to 12.
    nb_produits: 1 to 6. satisfaction: 0 to 10, empty if unanswered. resiliation: oui for about 26 %.
    """
    random = np.random.default_rng(seed)
    months = np.minimum(random.gamma(1.3, 26.0, rows), 180.0).astype(int)
    products = 1 + random.binomial(5, 0.28, rows)
    price = 5.0 + products * random.lognormal(2.55, 0.25, rows) + random.lognormal(1.9, 0.5, rows)
    annoyance = random.gamma(0.7, 1.0, rows)  # the trait behind complaints and low marks
    complaints = np.minimum(random.poisson(annoyance), 12)
    marks = np.clip(np.rint(7.8 - 1.1 * annoyance + random.normal(0.0, 1.4, rows)), 0, 10).astype(int)
    answered = random.random(rows) >= UNANSWERED
    logit = (
        -0.55
        + 0.55 * np.minimum(complaints, 5)
        - 0.032 * np.minimum(months, 60)
        + 0.022 * (price - 45.0)
        - 0.30 * (products - 2)
        - 0.24 * (marks - 7)
    )
    left = random.random(rows) < 1.0 / (1.0 + np.exp(-logit))
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for i in range(rows):
        mark = int(marks[i]) if answered[i] else ""
        table.writerow(
            (
                f"client-{i + 1:06d}",
                int(months[i]),
                f"{price[i]:.2f}",
                int(complaints[i]),
                int(products[i]),
                mark,
                "oui" if left[i] else "non",
            )
        )
    return text.getvalue()
