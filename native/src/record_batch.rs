//! Kafka record batches of format 2 without compression, byte for byte as aiokafka's builder makes them.

#![forbid(unsafe_code)]

/// Bytes of a batch before its first record.
pub const HEADER: usize = 61;
const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
pub const MAGIC: usize = 16;
pub const CRC: usize = 17;
pub const ATTRIBUTES: usize = 21;
const LAST_OFFSET: usize = 23;
pub const FIRST_TIMESTAMP: usize = 27;
pub const LAST_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const SEQUENCE: usize = 53;
pub const COUNT: usize = 57;
const TRANSACTIONAL: i16 = 0x10;

/// What a producer's state adds to a batch when it is sent.
#[derive(Clone, Copy)]
pub struct Producer {
    pub transactional: bool,
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

/// Records of one batch, behind room for its header. Every one has the batch's timestamp, which is not known yet.
pub struct Batch {
    pub bytes: Vec<u8>,
    pub records: i32,
}

impl Batch {
    /// Write the header of the finished batch.
    pub fn seal(&mut self, timestamp_ms: i64, producer: Producer) {
        let out = &mut self.bytes;
        let length = (out.len() - LEADER_EPOCH) as i32;
        let mut put = |at: usize, field: &[u8]| out[at..at + field.len()].copy_from_slice(field);
        put(LENGTH, &length.to_be_bytes());
        put(LEADER_EPOCH, &(-1_i32).to_be_bytes());
        put(MAGIC, &[2]);
        let attributes = if producer.transactional {
            TRANSACTIONAL
        } else {
            0
        };
        put(ATTRIBUTES, &attributes.to_be_bytes());
        put(LAST_OFFSET, &(self.records - 1).to_be_bytes());
        put(FIRST_TIMESTAMP, &timestamp_ms.to_be_bytes());
        put(LAST_TIMESTAMP, &timestamp_ms.to_be_bytes());
        put(PRODUCER_ID, &producer.id.to_be_bytes());
        put(PRODUCER_EPOCH, &producer.epoch.to_be_bytes());
        put(SEQUENCE, &producer.sequence.to_be_bytes());
        put(COUNT, &self.records.to_be_bytes());
        let crc = crc32c::crc32c(&out[ATTRIBUTES..]);
        out[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Appends records to as few batches as fit.
pub struct Builder {
    limit: usize,
    expected: usize,
    spare: Vec<Vec<u8>>,
    full: Vec<Batch>,
    open: Vec<u8>,
    records: i32,
}

impl Builder {
    /// limit: the most bytes of a batch, unless a single record is larger. expected: how many records will come.
    /// spare: memory to use again.
    pub fn new(limit: usize, expected: usize, spare: Vec<Vec<u8>>) -> Self {
        let mut made = Builder {
            limit,
            expected,
            spare,
            full: Vec::new(),
            open: Vec::new(),
            records: 0,
        };
        made.open = made.empty();
        made
    }

    fn empty(&mut self) -> Vec<u8> {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.resize(HEADER, 0);
        bytes
    }

    /// Append one record. headers: their number and each of them, encoded.
    pub fn append(&mut self, key: Option<&[u8]>, value: &[u8], headers: &[u8]) {
        let mut body = self.body_size(key, value, headers);
        let mut size = varint_size(body as i64) + body;
        if self.records > 0 && self.open.len() + size >= self.limit {
            self.close();
            body = self.body_size(key, value, headers);
            size = varint_size(body as i64) + body;
        }
        if self.records == 0 {
            // records of one batch resemble each other
            let room = size
                .saturating_mul(self.expected)
                .saturating_add(self.expected * 4 + size);
            self.open.reserve(room.min(self.limit).max(size));
        }
        self.expected = self.expected.saturating_sub(1);
        let open = &mut self.open;
        put_varint(open, body as i64);
        open.extend_from_slice(&[0, 0]); // attributes, and no difference to the batch's timestamp
        put_varint(open, i64::from(self.records));
        match key {
            Some(key) => put_bytes(open, key),
            None => put_varint(open, -1),
        }
        put_bytes(open, value);
        open.extend_from_slice(headers);
        self.records += 1;
    }

    fn body_size(&self, key: Option<&[u8]>, value: &[u8], headers: &[u8]) -> usize {
        let key = key.map_or(1, |key| varint_size(key.len() as i64) + key.len());
        2 + varint_size(i64::from(self.records))
            + key
            + varint_size(value.len() as i64)
            + value.len()
            + headers.len()
    }

    fn close(&mut self) {
        let empty = self.empty();
        let bytes = std::mem::replace(&mut self.open, empty);
        self.full.push(Batch {
            bytes,
            records: self.records,
        });
        self.records = 0;
    }

    /// Return the batches, none without records, and the memory that is left.
    pub fn finish(mut self) -> (Vec<Batch>, Vec<Vec<u8>>) {
        if self.records > 0 {
            self.close();
        }
        self.spare.push(self.open);
        (self.full, self.spare)
    }
}

/// Append bytes with their number before them.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Append a header of a record.
pub fn put_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put_bytes(out, name);
    put_bytes(out, value);
}

/// Append a whole number in zigzag form, seven bits a byte.
pub fn put_varint(out: &mut Vec<u8>, number: i64) {
    let mut rest = zigzag(number);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn varint_size(number: i64) -> usize {
    let bits = 64 - (zigzag(number) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}
