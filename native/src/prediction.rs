//! Predictions as JSON, byte for byte as `schemas/prediction.py` encodes them.

#![forbid(unsafe_code)]

use std::cmp::Ordering;

use crate::json::{put_characters, put_double, put_integer, put_string};

/// Where the outcome is beside its value.
#[derive(Clone)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
    /// JSON.
    pub level: Vec<u8>,
}

/// The members of a prediction that hold its result, by the task of the model.
pub enum Task {
    /// threshold_json: the same number as JSON.
    Binary {
        threshold: f64,
        threshold_json: Vec<u8>,
    },
    Value {
        interval: Option<Interval>,
    },
    /// names: of every class, as JSON. shown: of more classes, only so many have their probability in the prediction.
    Classes {
        names: Vec<Vec<u8>>,
        shown: usize,
    },
}

impl Task {
    /// The numbers of a row's score.
    pub fn width(&self) -> usize {
        match self {
            Task::Binary { .. } | Task::Value { .. } => 1,
            Task::Classes { names, .. } => names.len(),
        }
    }

    fn put(&self, out: &mut Vec<u8>, score: &[f64]) {
        match self {
            Task::Binary {
                threshold,
                threshold_json,
            } => {
                out.extend_from_slice(b",\"probability\":");
                put_double(out, score[0]);
                let label: &[u8] = if score[0] >= *threshold {
                    b"true"
                } else {
                    b"false"
                };
                out.extend_from_slice(b",\"label\":");
                out.extend_from_slice(label);
                out.extend_from_slice(b",\"threshold\":");
                out.extend_from_slice(threshold_json);
            }
            Task::Value { interval } => {
                out.extend_from_slice(b",\"value\":");
                put_double(out, score[0]);
                if let Some(Interval { low, high, level }) = interval {
                    out.extend_from_slice(b",\"interval\":{\"low\":");
                    put_double(out, score[0] + low);
                    out.extend_from_slice(b",\"high\":");
                    put_double(out, score[0] + high);
                    out.extend_from_slice(b",\"level\":");
                    out.extend_from_slice(level);
                    out.push(b'}');
                }
            }
            Task::Classes { names, shown } => put_classes(out, names, *shown, score),
        }
    }
}

fn put_classes(out: &mut Vec<u8>, names: &[Vec<u8>], shown: usize, score: &[f64]) {
    let mut best = 0;
    for (at, probability) in score.iter().enumerate() {
        // of equal ones the first
        if *probability > score[best] {
            best = at;
        }
    }
    out.extend_from_slice(b",\"label\":");
    out.extend_from_slice(&names[best]);
    out.extend_from_slice(b",\"probability\":");
    put_double(out, score[best]);
    out.extend_from_slice(b",\"probabilities\":{");
    let mut order: Vec<usize> = (0..score.len()).collect();
    if score.len() > shown {
        // stable; both zeros are equal
        order.sort_by(|&a, &b| score[b].partial_cmp(&score[a]).unwrap_or(Ordering::Equal));
        order.truncate(shown);
    }
    for (number, at) in order.into_iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&names[at]);
        out.push(b':');
        put_double(out, score[at]);
    }
    out.push(b'}');
}

/// What all predictions of a batch have in common.
pub struct Document<'a> {
    task: &'a Task,
    /// JSON.
    model: &'a [u8],
    head: Vec<u8>,
    scored_at: Vec<u8>,
}

impl<'a> Document<'a> {
    /// prefix: of every prediction id, before the offset.
    pub fn new(task: &'a Task, model: &'a [u8], prefix: &str, scored_at: &str) -> Self {
        let mut head = b"{\"schema_version\":1,\"prediction_id\":\"".to_vec();
        put_characters(&mut head, prefix);
        let mut at = b",\"scored_at\":".to_vec();
        put_string(&mut at, scored_at);
        Document {
            task,
            model,
            head,
            scored_at: at,
        }
    }

    /// Append one prediction. score: `width` numbers.
    pub fn put(&self, out: &mut Vec<u8>, offset: i64, texts: [&str; 3], score: &[f64]) {
        let [event_id, customer_id, event_time] = texts;
        out.extend_from_slice(&self.head);
        put_integer(out, offset);
        out.extend_from_slice(b"\",\"event_id\":");
        put_string(out, event_id);
        out.extend_from_slice(b",\"customer_id\":");
        put_string(out, customer_id);
        out.extend_from_slice(b",\"event_time\":");
        put_string(out, event_time);
        out.extend_from_slice(&self.scored_at);
        self.task.put(out, score);
        out.extend_from_slice(b",\"model\":");
        out.extend_from_slice(self.model);
        out.push(b'}');
    }
}
