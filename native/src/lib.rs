//! Driftline's native lane, as Python sees it. The modules below hold no unsafe code, and none is written here.
//!
//! Python is the definition: whatever is not plainly of the expected form is handed back as None, and Python answers it.

#![forbid(unsafe_code)]

mod event;
mod fetched;
mod json;
mod prediction;
mod record_batch;

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PySequence, PyString, PyTuple};

use event::{Columns, Feature, Form, Found, Kind};
use prediction::{Document, Interval, Task};
use record_batch::{Batch, Builder, Producer, put_bytes, put_header, put_varint};

/// Changes with every call that Python makes. Python uses a library of its own number only.
const INTERFACE: u32 = 3;
/// Fewer records are encoded at once: to give the interpreter lock away and to wait for it costs more than they do.
const WORTH_A_SWITCH: usize = 200;
/// Records that are held at a time: what is kept of them fits into the processor's cache.
const AT_A_TIME: usize = 1000;
/// Buffers of large batches that are kept for the next ones: fresh memory costs more than the encoding.
const MOST_SPARE: usize = 4;
const LARGE: usize = 1 << 16;
/// The memory of a larger batch, which holds one huge record, is not kept.
const TOO_LARGE: usize = 1 << 21;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Encodes the predictions of one model version as record batches.
#[pyclass(frozen)]
struct Encoder {
    task: Task,
    model: Vec<u8>,
}

/// The headers of the records of one batch. Names and constant values are encoded once.
#[pyclass(frozen)]
struct Headers {
    /// Topic and partition, and the name of the offset.
    before_offset: Vec<u8>,
    before_timestamp: Vec<u8>,
    /// The kind of the timestamp and all that follows, by that kind: the producer's, or the broker's.
    after_timestamp: [Vec<u8>; 2],
    constant: usize,
}

/// A record batch without timestamp, producer and checksum.
#[pyclass(frozen)]
struct OpenBatch(Mutex<Batch>);

impl Drop for OpenBatch {
    fn drop(&mut self) {
        if let Ok(batch) = self.0.get_mut() {
            keep(std::mem::take(&mut batch.bytes));
        }
    }
}

/// Keep a buffer for a later batch, if that is worth it.
fn keep(bytes: Vec<u8>) {
    if let Ok(mut spare) = SPARE.lock() {
        if spare.len() < MOST_SPARE && (LARGE..TOO_LARGE).contains(&bytes.capacity()) {
            spare.push(bytes);
        }
    }
}

type Header<'py> = (Bound<'py, PyString>, Bound<'py, PyBytes>);

/// What a record of Python holds, kept alive while Rust reads it.
struct Held<'py> {
    offset: i64,
    timestamp: i64,
    by_broker: bool,
    key: Option<Bound<'py, PyBytes>>,
    texts: [Bound<'py, PyString>; 3],
    more: Option<Header<'py>>,
}

/// The same without the interpreter.
struct Row<'a> {
    offset: i64,
    timestamp: i64,
    by_broker: bool,
    key: Option<&'a [u8]>,
    texts: [&'a str; 3],
    more: Option<(&'a [u8], &'a [u8])>,
}

#[pymethods]
impl Headers {
    /// Take the headers before the offset, the names of offset and timestamp, and for both kinds of a timestamp what
    /// follows it.
    #[new]
    fn new(
        before: Vec<(String, Vec<u8>)>,
        offset: &str,
        timestamp: &str,
        by_producer: Vec<(String, Vec<u8>)>,
        by_broker: Vec<(String, Vec<u8>)>,
    ) -> Self {
        let all = |headers: &[(String, Vec<u8>)]| {
            let mut out = Vec::new();
            headers
                .iter()
                .for_each(|(name, value)| put_header(&mut out, name.as_bytes(), value));
            out
        };
        let mut before_offset = all(&before);
        put_bytes(&mut before_offset, offset.as_bytes());
        let mut before_timestamp = Vec::new();
        put_bytes(&mut before_timestamp, timestamp.as_bytes());
        let constant = before.len() + 2 + by_producer.len();
        Headers {
            before_offset,
            before_timestamp,
            after_timestamp: [all(&by_producer), all(&by_broker)],
            constant,
        }
    }
}

impl Headers {
    fn put(&self, out: &mut Vec<u8>, row: &Row<'_>, digits: &mut Vec<u8>) {
        put_varint(
            out,
            (self.constant + usize::from(row.more.is_some())) as i64,
        );
        for (before, number) in [
            (&self.before_offset, row.offset),
            (&self.before_timestamp, row.timestamp),
        ] {
            digits.clear();
            json::put_integer(digits, number);
            out.extend_from_slice(before);
            put_bytes(out, digits);
        }
        out.extend_from_slice(&self.after_timestamp[usize::from(row.by_broker)]);
        if let Some((name, value)) = row.more {
            put_header(out, name, value);
        }
    }
}

#[pymethods]
#[allow(clippy::too_many_arguments)] // as Python calls it
impl Encoder {
    /// Return the encoder of a binary model. threshold_json and model: JSON.
    #[staticmethod]
    fn binary(threshold: f64, threshold_json: Vec<u8>, model: Vec<u8>) -> Self {
        Encoder {
            task: Task::Binary {
                threshold,
                threshold_json,
            },
            model,
        }
    }

    /// Return the encoder of a regression. interval: low, high, and level as JSON.
    #[staticmethod]
    fn value(interval: Option<(f64, f64, Vec<u8>)>, model: Vec<u8>) -> Self {
        let interval = interval.map(|(low, high, level)| Interval { low, high, level });
        Encoder {
            task: Task::Value { interval },
            model,
        }
    }

    /// Return the encoder of a model with several classes. names: each as JSON. shown: the most that are written.
    #[staticmethod]
    fn classes(names: Vec<Vec<u8>>, shown: usize, model: Vec<u8>) -> Self {
        Encoder {
            task: Task::Classes { names, shown },
            model,
        }
    }

    /// Return the predictions as OpenBatches of at most `limit` bytes, and the sum of what `carried` counted.
    ///
    /// texts: event ids, customer ids, event times. scores: doubles, row by row. carried: called with the headers of a
    /// record that has any; returns a count, and one more header or None. None: Python must encode this batch.
    #[pyo3(signature = (records, texts, scores, prefix, scored_at, headers, carried, limit))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        records: &Bound<'py, PyList>,
        texts: [Bound<'py, PyAny>; 3],
        scores: &[u8],
        prefix: &str,
        scored_at: &str,
        headers: &Headers,
        carried: &Bound<'py, PyAny>,
        limit: usize,
    ) -> PyResult<Option<(Vec<OpenBatch>, i64)>> {
        let width = self.task.width();
        let scores: Vec<f64> = scores
            .chunks_exact(8)
            .map(|bytes| f64::from_ne_bytes(bytes.try_into().unwrap_or_default()))
            .collect();
        let [event_ids, customer_ids, event_times] = texts;
        let texts = [tuple(event_ids)?, tuple(customer_ids)?, tuple(event_times)?];
        if scores.len() != records.len() * width
            || texts.iter().any(|column| column.len() != records.len())
        {
            return Ok(None);
        }
        let document = Document::new(&self.task, &self.model, prefix, scored_at);
        let mut spare = Vec::new();
        if records.len() >= WORTH_A_SWITCH {
            if let Ok(mut kept) = SPARE.lock() {
                spare.append(&mut kept);
            }
        }
        let mut builder = Builder::new(limit, records.len(), spare);
        let (mut value, mut own, mut digits) = (Vec::new(), Vec::new(), Vec::new());
        let mut counted = 0;
        for first in (0..records.len()).step_by(AT_A_TIME) {
            let range = first..records.len().min(first + AT_A_TIME);
            let scores = &scores[range.start * width..range.end * width];
            let Some(held) = hold(py, records, &texts, range, carried, &mut counted)? else {
                return Ok(None);
            };
            let Some(rows) = held.iter().map(row).collect::<Option<Vec<_>>>() else {
                return Ok(None);
            };
            let mut encode = || {
                for (row, score) in rows.iter().zip(scores.chunks_exact(width)) {
                    value.clear();
                    own.clear();
                    document.put(&mut value, row.offset, row.texts, score);
                    headers.put(&mut own, row, &mut digits);
                    builder.append(row.key, &value, &own);
                }
            };
            if rows.len() < WORTH_A_SWITCH {
                encode()
            } else {
                py.detach(encode)
            }
        }
        let (full, spare) = builder.finish();
        spare.into_iter().for_each(keep);
        let batches = full
            .into_iter()
            .map(|batch| OpenBatch(Mutex::new(batch)))
            .collect();
        Ok(Some((batches, counted)))
    }
}

/// Take hold of every record's parts; None if one of them is not of the expected type.
fn hold<'py>(
    py: Python<'py>,
    records: &Bound<'py, PyList>,
    texts: &[Bound<'py, PyTuple>; 3],
    range: Range<usize>,
    carried: &Bound<'py, PyAny>,
    counted: &mut i64,
) -> PyResult<Option<Vec<Held<'py>>>> {
    let names = [
        pyo3::intern!(py, "offset"),
        pyo3::intern!(py, "timestamp"),
        pyo3::intern!(py, "timestamp_type"),
        pyo3::intern!(py, "key"),
        pyo3::intern!(py, "headers"),
    ];
    let mut held = Vec::with_capacity(range.len());
    for at in range {
        let texts = [
            texts[0].get_item(at)?,
            texts[1].get_item(at)?,
            texts[2].get_item(at)?,
        ];
        let [Ok(event_id), Ok(customer_id), Ok(event_time)] =
            texts.map(|text| text.cast_into::<PyString>())
        else {
            return Ok(None);
        };
        let texts = [event_id, customer_id, event_time];
        let record = records.get_item(at)?;
        if let Some(ours) = without_headers(&record) {
            held.push(Held {
                offset: ours.offset,
                timestamp: ours.timestamp,
                by_broker: ours.timestamp_type == 1,
                key: ours.key.as_ref().map(|key| key.bind(py).clone()),
                texts,
                more: None,
            });
            continue;
        }
        let (Ok(offset), Ok(timestamp)) = (
            record.getattr(names[0])?.extract::<i64>(),
            record.getattr(names[1])?.extract::<i64>(),
        ) else {
            return Ok(None);
        };
        let kind = record.getattr(names[2])?;
        let key = record.getattr(names[3])?;
        let key = match key.is_none() {
            true => None,
            false => match key.cast_into::<PyBytes>() {
                Ok(key) => Some(key),
                Err(_) => return Ok(None),
            },
        };
        let carries = record.getattr(names[4])?;
        let mut more = None;
        if carries.is_truthy()? {
            let (count, header): (i64, Option<Header<'py>>) =
                carried.call1((carries,))?.extract()?;
            *counted += count;
            more = header;
        }
        let by_broker = !kind.is_none() && kind.extract::<i64>().is_ok_and(|kind| kind == 1);
        held.push(Held {
            offset,
            timestamp,
            by_broker,
            key,
            texts,
            more,
        });
    }
    Ok(Some(held))
}

fn tuple(column: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyTuple>> {
    column.cast_into::<PySequence>()?.to_tuple()
}

/// Return None if a text is no UTF-8.
fn row<'a>(held: &'a Held<'_>) -> Option<Row<'a>> {
    let text = |at: usize| held.texts[at].to_str().ok();
    let more = match &held.more {
        None => None,
        Some((name, value)) => Some((name.to_str().ok()?.as_bytes(), value.as_bytes())),
    };
    Some(Row {
        offset: held.offset,
        timestamp: held.timestamp,
        by_broker: held.by_broker,
        key: held.key.as_ref().map(|key| key.as_bytes()),
        texts: [text(0)?, text(1)?, text(2)?],
        more,
    })
}

#[pymethods]
impl OpenBatch {
    /// The number of records.
    #[getter]
    fn records(&self) -> PyResult<i32> {
        Ok(self.batch()?.records)
    }

    /// The number of bytes.
    #[getter]
    fn size(&self) -> PyResult<usize> {
        Ok(self.batch()?.bytes.len())
    }

    /// Return the finished batch.
    fn seal<'py>(
        &self,
        py: Python<'py>,
        timestamp_ms: i64,
        transactional: bool,
        producer_id: i64,
        producer_epoch: i16,
        sequence: i32,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut batch = self.batch()?;
        batch.seal(
            timestamp_ms,
            Producer {
                transactional,
                id: producer_id,
                epoch: producer_epoch,
                sequence,
            },
        );
        Ok(PyBytes::new(py, &batch.bytes))
    }
}

impl OpenBatch {
    fn batch(&self) -> PyResult<MutexGuard<'_, Batch>> {
        self.0
            .lock()
            .map_err(|_| PyRuntimeError::new_err("an earlier call has failed"))
    }
}

/// Reads the events of one bundle.
#[pyclass(frozen)]
struct Decoder {
    form: Form,
    most_bytes: usize,
}

/// The plainly valid events of a batch; one entry per event in every part but `rest`.
#[pyclass(frozen, get_all)]
struct Decoded {
    /// int64: which records they are.
    accepted: Py<PyBytes>,
    /// The other records, which are for Python.
    rest: Vec<usize>,
    event_ids: Py<PyList>,
    customer_ids: Py<PyList>,
    event_times: Py<PyList>,
    /// int64, milliseconds since the epoch.
    event_time_ms: Py<PyBytes>,
    /// float64 and int32: one column after the other.
    numbers: Py<PyByteArray>,
    codes: Py<PyByteArray>,
    key_mismatches: usize,
}

#[pymethods]
impl Decoder {
    /// Take the features in the manifest's order: name, nullable, kind, bounds of a number, names of categories.
    ///
    /// most_bytes: of key, value and headers. earliest_ms: of an event's time.
    #[new]
    fn new(
        features: Vec<(String, bool, String, f64, f64, Vec<String>)>,
        most_bytes: usize,
        earliest_ms: i64,
    ) -> PyResult<Self> {
        let (mut numbers, mut codes) = (0, 0);
        let mut made = Vec::with_capacity(features.len());
        for (name, nullable, kind, low, high, categories) in features {
            let kind = match kind.as_str() {
                "numeric" => Kind::Number { low, high },
                "boolean" => Kind::Boolean,
                "categorical" => Kind::Category(
                    categories
                        .into_iter()
                        .map(String::into_bytes)
                        .zip(0..)
                        .collect(),
                ),
                _ => {
                    return Err(PyValueError::new_err(format!(
                        "a feature of the kind {kind}"
                    )));
                }
            };
            let counter = if matches!(kind, Kind::Number { .. }) {
                &mut numbers
            } else {
                &mut codes
            };
            made.push(Feature {
                name: name.into_bytes(),
                nullable,
                kind,
                column: *counter,
            });
            *counter += 1;
        }
        Ok(Decoder {
            form: Form::new(made, earliest_ms),
            most_bytes,
        })
    }

    /// Return the events that are plainly valid, and which records are for Python. latest_ms: of an event's time.
    fn decode(
        &self,
        py: Python<'_>,
        records: &Bound<'_, PyList>,
        latest_ms: i64,
    ) -> PyResult<Decoded> {
        let mut columns = Columns::new(&self.form, records.len());
        let mut seen = vec![false; self.form.len()];
        let (mut accepted, mut times, mut rest, mut key_mismatches) =
            (Vec::new(), Vec::new(), Vec::new(), 0);
        let texts = [PyList::empty(py), PyList::empty(py), PyList::empty(py)];
        for first in (0..records.len()).step_by(AT_A_TIME) {
            let range = first..records.len().min(first + AT_A_TIME);
            let held: Vec<_> = range
                .map(|at| self.value(py, records, at))
                .collect::<PyResult<_>>()?;
            let values: Vec<_> = held
                .iter()
                .map(|held| {
                    held.as_ref().map(|(value, key)| {
                        (value.as_bytes(), key.as_ref().map(|key| key.as_bytes()))
                    })
                })
                .collect();
            let mut read = || {
                let one = |value: &Option<(_, _)>| {
                    let (value, key): (_, Option<&[u8]>) = (*value)?;
                    let found = self.form.read(value, latest_ms, &mut columns, &mut seen)?;
                    key_mismatches +=
                        usize::from(key.is_some_and(|key| key != found.customer_id.as_bytes()));
                    Some(found)
                };
                values.iter().map(one).collect()
            };
            let found: Vec<Option<Found<'_>>> = if values.len() < WORTH_A_SWITCH {
                read()
            } else {
                py.detach(read)
            };
            for (at, found) in (first..).zip(found) {
                let Some(found) = found else {
                    rest.push(at);
                    continue;
                };
                accepted.extend_from_slice(&(at as i64).to_ne_bytes());
                times.extend_from_slice(&found.event_time_ms.to_ne_bytes());
                texts[0].append(PyString::new(py, found.event_id))?;
                texts[1].append(PyString::new(py, found.customer_id))?;
                texts[2].append(PyString::new(py, found.event_time))?;
            }
        }
        let [event_ids, customer_ids, event_times] = texts.map(Bound::unbind);
        let [numbers, codes] = columns.sizes();
        Ok(Decoded {
            accepted: PyBytes::new(py, &accepted).unbind(),
            rest,
            event_ids,
            customer_ids,
            event_times,
            event_time_ms: PyBytes::new(py, &times).unbind(),
            numbers: bytes(py, numbers, |out| columns.put_numbers(out))?,
            codes: bytes(py, codes, |out| columns.put_codes(out))?,
            key_mismatches,
        })
    }
}

fn bytes(py: Python<'_>, size: usize, fill: impl FnOnce(&mut [u8])) -> PyResult<Py<PyByteArray>> {
    let filled = PyByteArray::new_with(py, size, |out| {
        fill(out);
        Ok(())
    })?;
    Ok(filled.unbind())
}

type Value<'py> = Option<(Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>)>;

impl Decoder {
    /// Return a record's value and key; None if they are of another type than bytes, or if it is empty or too large.
    fn value<'py>(
        &self,
        py: Python<'py>,
        records: &Bound<'py, PyList>,
        at: usize,
    ) -> PyResult<Value<'py>> {
        let record = records.get_item(at)?;
        if let Some(ours) = without_headers(&record) {
            let key = ours.key.as_ref().map(|key| key.bind(py).clone());
            let value = ours.value.as_ref().map(|value| value.bind(py).clone());
            return Ok(value.and_then(|value| self.fitting(value, key, 0)));
        }
        let Ok(value) = record
            .getattr(pyo3::intern!(py, "value"))?
            .cast_into::<PyBytes>()
        else {
            return Ok(None);
        };
        let key = record.getattr(pyo3::intern!(py, "key"))?;
        let key = match (key.is_none(), key.cast_into::<PyBytes>()) {
            (true, _) => None,
            (false, Ok(key)) => Some(key),
            (false, Err(_)) => return Ok(None),
        };
        let mut size = 0;
        let headers = record.getattr(pyo3::intern!(py, "headers"))?;
        if headers.is_truthy()? {
            for header in headers.try_iter()? {
                let Ok((name, value)) =
                    header?.extract::<(Bound<'py, PyString>, Option<Bound<'py, PyBytes>>)>()
                else {
                    return Ok(None);
                };
                let Ok(name) = name.to_str() else {
                    return Ok(None);
                };
                size += name.len() + value.map_or(0, |value| value.as_bytes().len());
            }
        }
        Ok(self.fitting(value, key, size))
    }

    /// Return value and key; None if the record is empty or too large. headers: their bytes.
    fn fitting<'py>(
        &self,
        value: Bound<'py, PyBytes>,
        key: Option<Bound<'py, PyBytes>>,
        headers: usize,
    ) -> Value<'py> {
        let key_size = key.as_ref().map_or(0, |key| key.as_bytes().len());
        let size = value.as_bytes().len() + key_size + headers;
        let fits = !value.as_bytes().is_empty() && size <= self.most_bytes;
        fits.then_some((value, key))
    }
}

/// A record as it was read from Kafka (schemas.validation.Record). Headers are read when they are asked for.
#[pyclass(frozen)]
struct Record {
    #[pyo3(get)]
    topic: Py<PyString>,
    #[pyo3(get)]
    partition: i32,
    #[pyo3(get)]
    offset: i64,
    #[pyo3(get)]
    timestamp: i64,
    #[pyo3(get)]
    timestamp_type: i32,
    #[pyo3(get)]
    key: Option<Py<PyBytes>>,
    #[pyo3(get)]
    value: Option<Py<PyBytes>>,
    /// The batch, and where in it they are; None: there are none.
    headers: Option<(Py<PyBytes>, usize)>,
}

#[pymethods]
impl Record {
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let Some((raw, at)) = &self.headers else {
            return Ok(PyTuple::empty(py));
        };
        let found = fetched::headers(raw.as_bytes(py), *at)
            .ok_or_else(|| PyRuntimeError::new_err("headers that were read before"))?;
        let one = |(name, value): fetched::Header<'_>| {
            (
                PyString::new(py, name),
                value.map(|value| PyBytes::new(py, value)),
            )
        };
        PyTuple::new(py, found.into_iter().map(one).collect::<Vec<_>>())
    }
}

/// Return a record that this library read and that has no headers, as most have none; None for any other.
fn without_headers<'a>(record: &'a Bound<'_, PyAny>) -> Option<&'a Record> {
    let ours = record.cast::<Record>().ok()?.get();
    ours.headers.is_none().then_some(ours)
}

/// Return whether the checksum of a fetched batch is right.
#[pyfunction]
fn is_whole(raw: &Bound<'_, PyBytes>) -> bool {
    fetched::is_whole(raw.as_bytes())
}

/// Return the records of one fetched batch, whose checksum is right; None if it is not plain.
#[pyfunction]
fn records_of<'py>(
    py: Python<'py>,
    topic: &Bound<'py, PyString>,
    partition: i32,
    raw: &Bound<'py, PyBytes>,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let Some(read) = fetched::read(raw.as_bytes()) else {
        return Ok(None);
    };
    let bytes = |part: Option<&[u8]>| part.map(|part| PyBytes::new(py, part).unbind());
    let made = PyList::empty(py);
    for record in read.records {
        made.append(Record {
            topic: topic.clone().unbind(),
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            timestamp_type: i32::from(read.by_broker),
            key: bytes(record.key),
            value: bytes(record.value),
            headers: record.headers_at.map(|at| (raw.clone().unbind(), at)),
        })?;
    }
    Ok(Some(made))
}

#[pymodule]
mod driftline_native {
    #[pymodule_export]
    use super::{Decoded, Decoder, Encoder, Headers, OpenBatch, Record, is_whole, records_of};

    #[pymodule_export]
    const INTERFACE: u32 = super::INTERFACE;

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
