//! Events of the default envelope → columns. Only what is plainly valid is read: anything else is Python's to judge.

#![forbid(unsafe_code)]

use std::collections::HashMap;

/// A missing category (schemas/features.py).
const MISSING: i32 = -1;
const LONGEST_ID: usize = 128;

pub enum Kind {
    /// Inclusive bounds.
    Number {
        low: f64,
        high: f64,
    },
    Boolean,
    /// The code of each category's name.
    Category(HashMap<Vec<u8>, i32>),
}

pub struct Feature {
    pub name: Vec<u8>,
    pub nullable: bool,
    pub kind: Kind,
    /// Of the numbers, or of the codes.
    pub column: usize,
}

/// What an event of one bundle looks like.
pub struct Form {
    features: Vec<Feature>,
    numbers: usize,
    codes: usize,
    earliest_ms: i64,
}

/// The parts of an event that are no features.
pub struct Found<'a> {
    pub event_id: &'a str,
    pub customer_id: &'a str,
    pub event_time: &'a str,
    pub event_time_ms: i64,
}

/// Features of many events, one column after the other, each with room for `most` rows.
pub struct Columns {
    most: usize,
    pub rows: usize,
    numbers: Vec<f64>,
    codes: Vec<i32>,
}

impl Columns {
    pub fn new(form: &Form, most: usize) -> Self {
        Columns {
            most,
            rows: 0,
            numbers: vec![0.0; most * form.numbers],
            codes: vec![0; most * form.codes],
        }
    }

    /// Bytes of the numbers and of the codes of all rows.
    pub fn sizes(&self) -> [usize; 2] {
        let rows = |cells: usize| cells / self.most.max(1) * self.rows;
        [rows(self.numbers.len()) * 8, rows(self.codes.len()) * 4]
    }

    /// Write the numbers of all rows, one column after the other.
    pub fn put_numbers(&self, out: &mut [u8]) {
        let columns = self.numbers.chunks_exact(self.most.max(1));
        let cells = columns.flat_map(|column| &column[..self.rows]);
        out.chunks_exact_mut(8)
            .zip(cells)
            .for_each(|(out, number)| out.copy_from_slice(&number.to_ne_bytes()));
    }

    /// Write the codes in the same way.
    pub fn put_codes(&self, out: &mut [u8]) {
        let columns = self.codes.chunks_exact(self.most.max(1));
        let cells = columns.flat_map(|column| &column[..self.rows]);
        out.chunks_exact_mut(4)
            .zip(cells)
            .for_each(|(out, code)| out.copy_from_slice(&code.to_ne_bytes()));
    }
}

impl Form {
    pub fn new(features: Vec<Feature>, earliest_ms: i64) -> Self {
        let numbers = features
            .iter()
            .filter(|feature| matches!(feature.kind, Kind::Number { .. }))
            .count();
        let codes = features.len() - numbers;
        Form {
            features,
            numbers,
            codes,
            earliest_ms,
        }
    }

    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Read one event into the next row of `columns`; None, and the row stays free, unless it is plainly valid.
    ///
    /// latest_ms: of its time. seen: room for a flag per feature.
    pub fn read<'a>(
        &self,
        value: &'a [u8],
        latest_ms: i64,
        columns: &mut Columns,
        seen: &mut [bool],
    ) -> Option<Found<'a>> {
        let mut json = Reader {
            bytes: value,
            at: 0,
        };
        let (mut event_id, mut customer_id, mut event_time) = (None, None, None);
        let (mut version, mut features) = (false, false);
        json.eat(b'{')?;
        loop {
            let name = json.string()?;
            json.eat(b':')?;
            // a member that comes twice is for Python
            match name {
                b"event_id" if event_id.is_none() => event_id = Some(identifier(json.string()?)?),
                b"customer_id" if customer_id.is_none() => {
                    customer_id = Some(identifier(json.string()?)?)
                }
                b"event_time" if event_time.is_none() => {
                    let text = json.string()?;
                    event_time = Some((ascii(text)?, milliseconds(text)?));
                }
                b"schema_version" if !version => {
                    json.one()?;
                    version = true;
                }
                b"features" if !features => {
                    self.features(&mut json, columns, seen)?;
                    features = true;
                }
                _ => return None,
            }
            if json.ends(b'}')? {
                break;
            }
        }
        json.space();
        let (event_time, event_time_ms) = event_time?;
        if json.at != value.len()
            || !features
            || event_time_ms < self.earliest_ms
            || event_time_ms > latest_ms
        {
            return None;
        }
        let found = Found {
            event_id: event_id?,
            customer_id: customer_id?,
            event_time,
            event_time_ms,
        };
        columns.rows += 1;
        Some(found)
    }

    fn features(
        &self,
        json: &mut Reader<'_>,
        columns: &mut Columns,
        seen: &mut [bool],
    ) -> Option<()> {
        seen.fill(false);
        json.eat(b'{')?;
        json.space();
        let mut next = 0;
        if json.peek()? == b'}' {
            json.at += 1;
        } else {
            loop {
                let name = json.string()?;
                // events of one producer have their members in one order
                let at = match self.features.get(next) {
                    Some(feature) if feature.name == name => next,
                    _ => self
                        .features
                        .iter()
                        .position(|feature| feature.name == name)?,
                };
                next = at + 1;
                if std::mem::replace(&mut seen[at], true) {
                    return None;
                }
                json.eat(b':')?;
                json.space();
                self.feature(&self.features[at], json, columns)?;
                if json.ends(b'}')? {
                    break;
                }
            }
        }
        for (feature, _) in self.features.iter().zip(seen).filter(|(_, seen)| !**seen) {
            missing(feature, columns)?;
        }
        Some(())
    }

    fn feature(
        &self,
        feature: &Feature,
        json: &mut Reader<'_>,
        columns: &mut Columns,
    ) -> Option<()> {
        if json.peek()? == b'n' {
            json.literal(b"null")?;
            return missing(feature, columns);
        }
        let cell = feature.column * columns.most + columns.rows;
        match &feature.kind {
            Kind::Number { low, high } => {
                let number = json.number()?;
                if !(number >= *low && number <= *high) {
                    return None;
                }
                columns.numbers[cell] = number;
            }
            Kind::Boolean => {
                let truth = json.peek()? == b't';
                json.literal(if truth { b"true" } else { b"false" })?;
                columns.codes[cell] = i32::from(truth);
            }
            Kind::Category(codes) => columns.codes[cell] = *codes.get(json.string()?)?,
        }
        Some(())
    }
}

fn missing(feature: &Feature, columns: &mut Columns) -> Option<()> {
    if !feature.nullable {
        return None;
    }
    let cell = feature.column * columns.most + columns.rows;
    match feature.kind {
        Kind::Number { .. } => columns.numbers[cell] = f64::NAN,
        _ => columns.codes[cell] = MISSING,
    }
    Some(())
}

fn ascii(text: &[u8]) -> Option<&str> {
    if text.is_ascii() {
        std::str::from_utf8(text).ok()
    } else {
        None
    }
}

/// Return an id of printable ASCII characters.
fn identifier(text: &[u8]) -> Option<&str> {
    let plain = (1..=LONGEST_ID).contains(&text.len())
        && text.iter().all(|byte| (0x20..0x7f).contains(byte));
    if plain { ascii(text) } else { None }
}

/// Return milliseconds since the epoch of a time like 2026-11-22T06:00:00.123Z, with up to nine digits or none.
fn milliseconds(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| date[*at] != *byte) {
        return None;
    }
    let fraction = match rest {
        b"Z" => 0,
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
            decimal(digits)?;
            let shown = digits.len().min(3);
            decimal(&digits[..shown])? * [100, 10, 1][shown - 1]
        }
        _ => return None,
    };
    let (year, month, day) = (
        decimal(&date[..4])?,
        decimal(&date[5..7])?,
        decimal(&date[8..10])?,
    );
    let (hour, minute, second) = (
        decimal(&date[11..13])?,
        decimal(&date[14..16])?,
        decimal(&date[17..])?,
    );
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // days_from_civil (H. Hinnant), as schemas/timestamps.py
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + fraction)
}

fn decimal(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + i64::from(digit - b'0')),
        _ => None,
    })
}

/// Reads JSON from the start. Every step returns None where the text is not what it expects.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        self.space();
        if self.peek()? != byte {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Step over a comma, or over the end of an object or a list; return whether it is the end.
    fn ends(&mut self, end: u8) -> Option<bool> {
        self.space();
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(false),
            _ if byte == end => Some(true),
            _ => None,
        }
    }

    fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.bytes[self.at..]
            .starts_with(text)
            .then(|| self.at += text.len())
    }

    /// Step over the number 1 in its shortest form.
    fn one(&mut self) -> Option<()> {
        self.space();
        self.literal(b"1")?;
        match self.peek() {
            Some(b'0'..=b'9' | b'.' | b'e' | b'E') => None,
            _ => Some(()),
        }
    }

    /// Return a text without escapes; it may be no UTF-8.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.eat(b'"')?;
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
        self.at += length + 1;
        (rest[length] == b'"').then(|| &rest[..length])
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// Return a number. A negative zero and what is too small for all bits of a double are for Python.
    fn number(&mut self) -> Option<f64> {
        let start = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        let leading = self.at;
        self.digits()?;
        if self.bytes[leading] == b'0' && self.at > leading + 1 {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = &self.bytes[start..self.at];
        let number: f64 = ascii(text)?.parse().ok()?;
        let digits = text.split(|byte| matches!(byte, b'e' | b'E')).next()?;
        let plain_zero = digits.iter().all(|byte| matches!(byte, b'0' | b'.'));
        (number.is_normal() || plain_zero).then_some(number)
    }
}
