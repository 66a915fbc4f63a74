"""Quix Streams: a StreamingDataFrame that applies the model to each event, exactly-once, all else as it comes."""

from model import BOOTSTRAP, GROUP, INPUT, OUTPUT, predict
from quixstreams import Application

app = Application(
    broker_address=BOOTSTRAP,
    consumer_group=GROUP,
    auto_offset_reset="earliest",
    processing_guarantee="exactly-once",
)
events = app.dataframe(app.topic(INPUT))
answers = events.apply(lambda event: predict([event])[0])
answers.to_topic(app.topic(OUTPUT))

if __name__ == "__main__":
    app.run()
