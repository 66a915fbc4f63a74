"""Topics and the list of settings."""

import pytest
from pydantic import ValidationError

from schemas.setting_names import KNOWN, Topics


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "x" * 250])
def test_a_name_that_kafka_does_not_take_is_an_error(name):
    """Before anything is created."""
    with pytest.raises(ValidationError):
        Topics(topic_labels=name)


def test_two_topics_of_one_name_are_an_error():
    """A scorer that reads what it writes would never end."""
    with pytest.raises(ValidationError, match="TOPIC_PREDICTIONS: the same topic as TOPIC_EVENTS"):
        Topics(topic_predictions="customer-events")
    assert Topics(topic_events="a", topic_predictions="b").topic_events == "a"


def test_every_topic_has_a_setting():
    """Under the variable's name."""
    assert {field.upper() for field in Topics.model_fields} < KNOWN
    assert [name for name in KNOWN if not name.isascii() or name != name.upper()] == []
