//! Fetched record batches of format 2 without compression → where each record's parts are.
//!
//! Only what is plainly a batch of whole records is read; anything else is aiokafka's, with its errors.

#![forbid(unsafe_code)]

use crate::record_batch::{ATTRIBUTES, COUNT, CRC, FIRST_TIMESTAMP, HEADER, LAST_TIMESTAMP, MAGIC};

/// A codec, or a marker of a transaction.
const OTHER_THAN_RECORDS: u8 = 0x27;
const BY_BROKER: u8 = 0x08;
const LONGEST_VARINT: u32 = 63;

/// The parts of a record, within its batch.
pub struct Record<'a> {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Where the number of its headers is; None: it has none.
    pub headers_at: Option<usize>,
}

/// All records of a batch.
pub struct Records<'a> {
    pub by_broker: bool,
    pub records: Vec<Record<'a>>,
}

/// Return whether the checksum of a batch is right.
pub fn is_whole(raw: &[u8]) -> bool {
    raw.len() >= HEADER && crc32c::crc32c(&raw[ATTRIBUTES..]).to_be_bytes() == raw[CRC..ATTRIBUTES]
}

/// Return the records of one batch, whose checksum is right; None if it is not plain.
pub fn read(raw: &[u8]) -> Option<Records<'_>> {
    if raw.len() < HEADER || raw[MAGIC] != 2 || raw[ATTRIBUTES + 1] & OTHER_THAN_RECORDS != 0 {
        return None;
    }
    let number = |at: usize| i64::from_be_bytes(raw[at..at + 8].try_into().expect("eight bytes"));
    let (base, first, last) = (number(0), number(FIRST_TIMESTAMP), number(LAST_TIMESTAMP));
    let count = i32::from_be_bytes(raw[COUNT..HEADER].try_into().expect("four bytes"));
    let by_broker = raw[ATTRIBUTES + 1] & BY_BROKER != 0;
    let mut rest = Reader { raw, at: HEADER };
    // a record takes seven bytes at least
    let mut records = Vec::with_capacity(raw.len().min(usize::try_from(count).ok()? * 7) / 7);
    let mut before = i64::MIN;
    for _ in 0..count {
        let length = rest.length()?;
        let end = rest
            .at
            .checked_add(length)
            .filter(|end| *end <= raw.len())?;
        let mut body = Reader {
            raw: &raw[..end],
            at: rest.at,
        };
        if body.byte()? != 0 {
            return None; // attributes of a record: none is used
        }
        let since_first = body.varint()?;
        let offset = base.checked_add(body.varint()?)?;
        if offset <= before {
            return None;
        }
        before = offset;
        records.push(Record {
            offset,
            timestamp: if by_broker {
                last
            } else {
                first.checked_add(since_first)?
            },
            key: body.part()?,
            value: body.part()?,
            headers_at: {
                let at = body.at;
                let count = body.length()?;
                for _ in 0..count {
                    body.header()?;
                }
                (count > 0).then_some(at)
            },
        });
        if body.at != end {
            return None;
        }
        rest.at = end;
    }
    (rest.at == raw.len() && !records.is_empty()).then_some(Records { by_broker, records })
}

/// Return the headers of a record of a batch that was read, from `headers_at` on.
pub fn headers(raw: &[u8], at: usize) -> Option<Vec<Header<'_>>> {
    let mut rest = Reader { raw, at };
    (0..rest.length()?).map(|_| rest.header()).collect()
}

/// Name and value.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// Reads one thing after another; None behind the end.
struct Reader<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.raw.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// A whole number in zigzag form, seven bits a byte.
    fn varint(&mut self) -> Option<i64> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some((number >> 1) as i64 ^ -((number & 1) as i64));
            }
            shift += 7;
            if shift >= LONGEST_VARINT {
                return None; // it would need a tenth byte: no number of a batch is so large
            }
        }
    }

    /// How many there are, or how many bytes.
    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    fn header(&mut self) -> Option<Header<'a>> {
        let name = std::str::from_utf8(self.part()??).ok()?;
        Some((name, self.part()?))
    }

    /// Bytes with their number before them; inner None: null.
    fn part(&mut self) -> Option<Option<&'a [u8]>> {
        let length = self.varint()?;
        if length == -1 {
            return Some(None);
        }
        let start = self.at;
        self.at = start.checked_add(usize::try_from(length).ok()?)?;
        Some(Some(self.raw.get(start..self.at)?))
    }
}
