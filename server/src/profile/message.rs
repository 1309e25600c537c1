//! The message that `pprof` reads, built table by table: strings, functions, locations, samples.
//!
//! # Reference
//! `proto/profile.proto` of github.com/google/pprof.

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use std::collections::HashMap;
use std::io::{self, Write};

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_types: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mappings: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    locations: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    functions: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    strings: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

/// What a number says: both are numbers of strings, as all texts here are.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    /// From the innermost outwards.
    #[prost(uint64, repeated, tag = "1")]
    locations: Vec<u64>,
    /// One for each type.
    #[prost(int64, repeated, tag = "2")]
    values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    start: u64,
    #[prost(uint64, tag = "3")]
    limit: u64,
    #[prost(uint64, tag = "4")]
    offset: u64,
    #[prost(int64, tag = "5")]
    file: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    /// The innermost of what was inlined there comes first.
    #[prost(message, repeated, tag = "4")]
    lines: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "4")]
    file: i64,
}

/// A function at a place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    pub(super) function: String,
    pub(super) file: String,
    pub(super) line: u32,
}

/// Where a file lies in the memory of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) start: u64,
    pub(super) limit: u64,
    pub(super) offset: u64,
    pub(super) file: String,
}

/// A profile that grows. Its types are what it was begun with.
#[derive(Debug)]
pub(super) struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(String, String), u64>,
}

impl Builder {
    /// Begins a profile of values of these kinds and units; the last of them is the one of its period.
    pub(super) fn new(types: &[(&str, &str)], period: i64) -> Self {
        let mut builder = Self {
            profile: Profile::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
        };
        // The first is empty by definition.
        builder.string("");
        for (kind, unit) in types {
            let (kind, unit) = (builder.string(kind), builder.string(unit));
            builder.profile.sample_types.push(ValueType { kind, unit });
        }
        builder.profile.period_type = builder.profile.sample_types.last().copied();
        builder.profile.period = period;
        builder
    }

    /// When it began, and how long it took.
    pub(super) fn times(&mut self, begun_ms: i64, took_ns: i64) {
        self.profile.time_nanos = begun_ms.saturating_mul(1_000_000);
        self.profile.duration_nanos = took_ns;
    }

    /// Adds where a file lies. To be done before locations are added.
    pub(super) fn map(&mut self, mapped: &Mapped, has_functions: bool) {
        let file = self.string(&mapped.file);
        self.profile.mappings.push(Mapping {
            id: self.profile.mappings.len() as u64 + 1,
            start: mapped.start,
            limit: mapped.limit,
            offset: mapped.offset,
            file,
            has_functions,
        });
    }

    /// Adds a place: its address, 0 for none, and what lies there, the innermost first. Gives its number.
    pub(super) fn location(&mut self, address: u64, frames: &[Frame]) -> u64 {
        let lines = frames.iter().map(|frame| Line {
            function: self.function(frame),
            line: i64::from(frame.line),
        });
        let lines = lines.collect();
        let within = |mapping: &&Mapping| (mapping.start..mapping.limit).contains(&address);
        let mapping = self
            .profile
            .mappings
            .iter()
            .find(within)
            .map_or(0, |mapping| mapping.id);
        let id = self.profile.locations.len() as u64 + 1;
        self.profile.locations.push(Location {
            id,
            mapping,
            address,
            lines,
        });
        id
    }

    /// Adds what was found at a stack of locations, the innermost first: a value for each type.
    pub(super) fn sample(&mut self, locations: Vec<u64>, values: Vec<i64>) {
        self.profile.samples.push(Sample { locations, values });
    }

    /// The message, packed as `pprof` wants it.
    ///
    /// # Errors
    /// None but what the signature of the packer allows for.
    pub(super) fn packed(&self) -> io::Result<Vec<u8>> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&self.profile.encode_to_vec())?;
        packer.finish()
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let key = (frame.function.clone(), frame.file.clone());
        if let Some(id) = self.functions.get(&key) {
            return *id;
        }
        let id = self.profile.functions.len() as u64 + 1;
        let (name, file) = (self.string(&frame.function), self.string(&frame.file));
        self.profile.functions.push(Function { id, name, file });
        self.functions.insert(key, id);
        id
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(number) = self.strings.get(text) {
            return *number;
        }
        let number = self.profile.strings.len() as i64;
        self.profile.strings.push(text.to_owned());
        self.strings.insert(text.to_owned(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_equal_is_told_once() {
        let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")], 7);
        builder.map(
            &Mapped {
                start: 0x1000,
                limit: 0x2000,
                offset: 0,
                file: "program".into(),
            },
            true,
        );
        let frame = |function: &str, line| Frame {
            function: function.into(),
            file: "a.rs".into(),
            line,
        };
        let inner = builder.location(0x1800, &[frame("f", 1), frame("g", 2)]);
        let outer = builder.location(0x2800, &[frame("g", 3)]);
        builder.sample(vec![inner, outer], vec![1, 7]);
        let mut bytes = Vec::new();
        let packed = builder.packed().unwrap();
        flate2::read::GzDecoder::new(&*packed).read_to_end(&mut bytes).unwrap();
        let read = Profile::decode(&*bytes).unwrap();
        assert_eq!(
            read.strings,
            [
                "",
                "samples",
                "count",
                "cpu",
                "nanoseconds",
                "program",
                "f",
                "a.rs",
                "g"
            ]
        );
        assert_eq!(read.functions.len(), 2);
        let mappings: Vec<u64> = read.locations.iter().map(|location| location.mapping).collect();
        assert_eq!(mappings, [1, 0]);
        assert_eq!(read.samples[0].values, [1, 7]);
        assert_eq!((read.period, read.period_type.map(|of| of.kind)), (7, Some(3)));
    }
}
