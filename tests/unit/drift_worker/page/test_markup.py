"""Markup is a type: any other text is escaped."""

from support.measured import EVIL

from drift_worker.page import markup


def test_markup_escapes_whatever_is_not_markup():
    """Text, attributes and numbers; only markup passes."""
    made = markup.tag("p", EVIL, markup.tag("i", 0.5), None, title=EVIL, hidden=True, lang=None)
    assert made == (
        '<p title="&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;&lt;b&gt;" hidden>'
        "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;&lt;b&gt;<i>0.5</i></p>"
    )


def test_only_markup_stays_markup_when_it_is_joined():
    """A text that looks like an element is a text."""
    made = markup.join(markup.tag("b", "x"), "<b>y</b>", None, 0)
    assert made == "<b>x</b>&lt;b&gt;y&lt;/b&gt;0"
    assert isinstance(made, markup.Html)
    assert markup.tag("div", made) == f"<div>{made}</div>"


def test_an_attribute_is_left_out_has_no_value_or_is_escaped():
    """False and None are no attribute; 0 is one."""
    assert markup.tag("p", hidden=False, lang=None, data_n=0, class_="a") == '<p data-n="0" class="a"></p>'
    assert markup.tag("br") == "<br>"
