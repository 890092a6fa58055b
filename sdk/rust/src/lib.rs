//! Rapport strategies in Rust: ABI 1, `no_std`, without dependencies.
//!
//! A strategy is a `cdylib` of one macro and one function. The macro declares what the
//! strategy reads and gives, each by a constant; the function ranks all candidates of a
//! decision:
//!
//! ```ignore
//! #![no_std]
//! use rapport::Decision;
//!
//! rapport::strategy! {
//!     name: "spenders", version: "1.0.0", description: "Dear offers to those who spend.",
//!     profile { number ARPU = "value.arpu"; }
//!     offer { number PRICE = "price"; }
//!     candidate { CHANCE = "propensity"; }
//!     rank: rank,
//! }
//!
//! fn rank(d: &Decision) {
//!     let spend = ARPU.or(d, 0.0);
//!     for i in 0..d.len() {
//!         d.score(i, CHANCE.of(d, i) * PRICE.or(d, i, 0.0).min(spend));
//!     }
//! }
//! ```
//!
//! README.md says how it is built; `example/spenders.rs` has one of most things.
//!
//! Every call begins with the memory that the module had after it was configured: what
//! a call leaves in a `static` is gone before the next. There is no clock and no
//! allocator; time is [`Decision::now`] and chance is [`Decision::rand`].
#![no_std]
#![warn(missing_docs)]

use core::cell::Cell;
use core::fmt::{self, Write};

const VERSION: u32 = 1;
const STATIC_MAGIC: u32 = 0x3153_5052;
const FRAME_MAGIC: u32 = 0x3146_5052;
const BAD_STATIC: u32 = 1;
const BAD_FRAME: u64 = 2;

// ---- the blocks that the host writes: see ABI.md ---------------------------------

#[repr(C)]
struct Static {
    magic: u32,
    version: u32,
    header_size: u32,
    size: u32,
    candidates: u32,
    parameters: u32,
    offer_columns: u32,
    channel_columns: u32,
    parameters_at: u32,
    offer_at: u32,
    offer_presence_at: u32,
    channel_at: u32,
    channel_presence_at: u32,
    strings_at: u32,
    strings_size: u32,
    frame_at: u32,
    frame_capacity: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Frame {
    magic: u32,
    version: u32,
    header_size: u32,
    size: u32,
    candidates: u32,
    profile: u32,
    columns: u32,
    strings_size: u32,
    now: i64,
    seed: u64,
    presence_at: u32,
    cells_at: u32,
    strings_at: u32,
    index_at: u32,
    columns_at: u32,
    output_at: u32,
    output_size: u32,
    score_at: u32,
    reason_at: u32,
    veto_at: u32,
    chance_at: u32,
    reserved: [u32; 1],
}

const _: () = assert!(core::mem::size_of::<Static>() == 80 && core::mem::size_of::<Frame>() == 96);

fn bit(bitmap: &[u64], i: usize) -> bool {
    bitmap[i / 64] >> (i % 64) & 1 != 0
}

/// Returns the text of a cell. The host has it in UTF-8.
fn text_at(pool: &[u8], cell: u64) -> &str {
    let at = cell as u32 as usize;
    let bytes = &pool[at..at + (cell >> 32) as usize];
    unsafe { core::str::from_utf8_unchecked(bytes) }
}

/// Attributes of offers, or of channels: a table with a row for each candidate of the
/// scenario.
struct Table {
    cells: &'static [u64],
    presence: &'static [u64],
    rows: usize,
}

impl Table {
    fn get(&self, column: usize, row: usize) -> Option<u64> {
        let words = (self.rows + 63) / 64;
        if bit(&self.presence[column * words..], row) {
            Some(self.cells[column * self.rows + row])
        } else {
            None
        }
    }
}

// ---- a decision --------------------------------------------------------------------

/// One decision: a customer, a moment, and the candidates to rank. A candidate is an
/// offer in a channel, and goes by its position, 0 to below [`Decision::len`].
pub struct Decision {
    now: i64,
    presence: &'static [u64],
    cells: &'static [u64],
    strings: &'static [u8],
    index: &'static [u32],
    columns: &'static [f64],
    parameters: &'static [f64],
    offer: Table,
    channel: Table,
    fixed_strings: &'static [u8],
    score: &'static [Cell<f64>],
    reason: &'static [Cell<u32>],
    veto: &'static [Cell<u64>],
    chance: &'static [Cell<f64>],
    rand: Rand,
}

impl Decision {
    /// How many candidates there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The time of the decision, in microseconds since 1970-01-01 UTC.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// The decision's random numbers: the same when it is replayed.
    pub fn rand(&self) -> &Rand {
        &self.rand
    }

    /// Sets a candidate's score, a finite number; the greatest wins. A candidate that is
    /// neither scored nor vetoed is a fault.
    pub fn score(&self, i: usize, score: f64) {
        self.score[i].set(score);
    }

    /// Sets the reason for the score; the last one set counts.
    pub fn because(&self, i: usize, reason: Reason) {
        self.reason[i].set(reason.0);
    }

    /// Says with which probability, above 0 and at most 1, the strategy's own draws put
    /// the candidate where it is. Declare it: `says_chances: true`.
    pub fn chance(&self, i: usize, p: f64) {
        assert!(!self.chance.is_empty(), "declare says_chances: true");
        self.chance[i].set(p);
    }

    /// Says that a candidate is not to be offered. It needs no score.
    pub fn veto(&self, i: usize) {
        let word = &self.veto[i / 64];
        word.set(word.get() | 1 << (i % 64));
        if self.score[i].get().is_nan() {
            self.score[i].set(0.0);
        }
    }

    fn field(&self, place: usize) -> Option<u64> {
        if bit(self.presence, place) {
            Some(self.cells[place])
        } else {
            None
        }
    }
}

// ---- what is read --------------------------------------------------------------------

macro_rules! field {
    ($(#[$doc:meta])* $name:ident, $value:ty, $d:ident, $cell:ident => $read:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name(#[doc(hidden)] pub usize);

        impl $name {
            /// The value, or `None` if it is unknown.
            #[inline]
            pub fn get<'a>(self, $d: &'a Decision) -> Option<$value> {
                match $d.field(self.0) {
                    Some($cell) => Some($read),
                    None => None,
                }
            }

            /// The value, or the given one if it is unknown.
            #[inline]
            pub fn or<'a>(self, d: &'a Decision, unknown: $value) -> $value {
                self.get(d).unwrap_or(unknown)
            }
        }
    };
}

field! {
    /// A profile field of type number or counter, or a number of the request's context.
    NumberField, f64, d, cell => f64::from_bits(cell)
}
field! {
    /// A profile field of type flag.
    FlagField, bool, d, cell => cell != 0
}
field! {
    /// A profile field of type text.
    TextField, &'a str, d, cell => text_at(d.strings, cell)
}
field! {
    /// A profile field of type time: microseconds since 1970-01-01 UTC.
    TimeField, i64, d, cell => cell as i64
}

/// A profile field of type set.
#[derive(Clone, Copy)]
pub struct SetField(#[doc(hidden)] pub usize);

impl SetField {
    /// Whether it is known what is in the set; it may be empty.
    pub fn known(self, d: &Decision) -> bool {
        bit(d.presence, self.0)
    }

    /// Whether an element is in the set; it is not in one that is unknown.
    pub fn has(self, d: &Decision, element: &str) -> bool {
        find(text_at(d.strings, d.cells[self.0]).as_bytes(), element.as_bytes())
    }

    /// How many elements the set has, 0 if it is unknown.
    pub fn len(self, d: &Decision) -> usize {
        self.all(d).count()
    }

    /// The elements in ascending order; none if the set is unknown.
    pub fn all(self, d: &Decision) -> impl Iterator<Item = &str> {
        let text = text_at(d.strings, d.cells[self.0]);
        let mut rest = text.as_bytes();
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = rest.iter().position(|&b| b == b';').unwrap_or(rest.len());
            let element = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or(&[]);
            Some(unsafe { core::str::from_utf8_unchecked(element) }) // it was cut at a ;
        })
    }
}

/// Whether an element is among those of a set, which are in ascending order: looks in the
/// middle until little is left, and then through that.
fn find(all: &[u8], element: &[u8]) -> bool {
    let end = |at: usize| at == all.len() || all[at] == b';';
    let (mut low, mut high) = (0, all.len());
    while low + 64 < high {
        let mut at = low + (high - low) / 2;
        while at > low && all[at - 1] != b';' {
            at -= 1;
        }
        let mut i = 0;
        while i < element.len() && !end(at + i) && all[at + i] == element[i] {
            i += 1;
        }
        let over = end(at + i);
        if i == element.len() && over {
            return true;
        }
        if i == element.len() || !over && all[at + i] > element[i] {
            high = at;
            continue;
        }
        low = at + i;
        while !end(low) {
            low += 1;
        }
        low += 1;
    }
    while low < high {
        let at = low;
        while !end(low) {
            low += 1;
        }
        if low - at == element.len() && all[at..low] == *element {
            return true;
        }
        low += 1;
    }
    false
}

macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident, $table:ident, $value:ty, $d:ident, $cell:ident => $read:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name(#[doc(hidden)] pub usize);

        impl $name {
            /// The value of the candidate at position i, or `None` if there is none.
            #[inline]
            pub fn get<'a>(self, $d: &'a Decision, i: usize) -> Option<$value> {
                match $d.$table.get(self.0, $d.index[i] as usize) {
                    Some($cell) => Some($read),
                    None => None,
                }
            }

            /// The value of the candidate at position i, or the given one if there is none.
            #[inline]
            pub fn or<'a>(self, d: &'a Decision, i: usize, unknown: $value) -> $value {
                self.get(d, i).unwrap_or(unknown)
            }
        }
    };
}

attribute! {
    /// A number that offers have, such as price; value is always there.
    OfferNumber, offer, f64, d, cell => f64::from_bits(cell)
}
attribute! {
    /// A flag that offers have.
    OfferFlag, offer, bool, d, cell => cell != 0
}
attribute! {
    /// A text that offers have.
    OfferText, offer, &'a str, d, cell => text_at(d.fixed_strings, cell)
}
attribute! {
    /// A number that channels have; cost is always there.
    ChannelNumber, channel, f64, d, cell => f64::from_bits(cell)
}
attribute! {
    /// A flag that channels have.
    ChannelFlag, channel, bool, d, cell => cell != 0
}
attribute! {
    /// A text that channels have.
    ChannelText, channel, &'a str, d, cell => text_at(d.fixed_strings, cell)
}

/// A number that every candidate has in this decision: `propensity`, `value`, `weight`,
/// `lever`, and of the history `times.OUTCOME`, `times.OUTCOME.DAYSd` and
/// `days_since.OUTCOME`.
#[derive(Clone, Copy)]
pub struct Column(#[doc(hidden)] pub usize);

impl Column {
    /// The number of the candidate at position i.
    #[inline]
    pub fn of(self, d: &Decision, i: usize) -> f64 {
        self.all(d)[i]
    }

    /// The numbers of all candidates.
    #[inline]
    pub fn all(self, d: &Decision) -> &[f64] {
        &d.columns[self.0 * d.len()..][..d.len()]
    }
}

/// A number that a scenario may set.
#[derive(Clone, Copy)]
pub struct Parameter(#[doc(hidden)] pub usize);

impl Parameter {
    /// The parameter's value.
    pub fn of(self, d: &Decision) -> f64 {
        d.parameters[self.0]
    }
}

/// Why a candidate has its score.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(#[doc(hidden)] pub u32);

// ---- the same in all languages -------------------------------------------------------

/// Random numbers of one decision: SplitMix64, as ABI.md says.
pub struct Rand(Cell<u64>);

impl Rand {
    fn new(seed: u64) -> Rand {
        let first = Rand(Cell::new(seed)).uint64();
        Rand(Cell::new(first))
    }

    /// A number of 64 random bits.
    pub fn uint64(&self) -> u64 {
        let mut z = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(z);
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number from 0 to below 1.
    pub fn float64(&self) -> f64 {
        (self.uint64() >> 11) as i64 as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// A number from 0 to n−1, each as likely; n is 1 to 2³¹−1, and for others the answer
    /// is 0.
    pub fn int_n(&self, n: u32) -> u32 {
        if n == 0 || n > 0x7FFF_FFFF {
            return 0;
        }
        loop {
            let product = (self.uint64() >> 32) * u64::from(n);
            if product as u32 >= n.wrapping_neg() % n {
                return (product >> 32) as u32;
            }
        }
    }
}

fn power2(k: i32) -> f64 {
    f64::from_bits(((k + 1023) as u64) << 52)
}

/// e to the power of x, with the bits that ABI.md says.
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return f64::from_bits(0x7FF8_0000_0000_0000);
    }
    if x > 709.782712893384 {
        return f64::INFINITY;
    }
    if x < -745.1332191019411 {
        return 0.0;
    }
    let k = (x * 1.4426950408889634 + if x < 0.0 { -0.5 } else { 0.5 }) as i32;
    let high = x - f64::from(k) * 0.6931471803691238;
    let low = f64::from(k) * 1.9082149292705877e-10;
    let r = high - low;
    let t = r * r;
    let p = 0.16666666666666602
        + t * (-0.0027777777777015593
            + t * (6.613756321437934e-05
                + t * (-1.6533902205465252e-06 + t * 4.1381367970572385e-08)));
    let c = r - t * p;
    let y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
    let a = k >> 1;
    y * power2(a) * power2(k - a)
}

/// The square root, which `core` does not have.
#[cfg(target_arch = "wasm32")]
#[target_feature(enable = "simd128")]
pub fn sqrt(x: f64) -> f64 {
    use core::arch::wasm32::{f64x2_extract_lane, f64x2_splat, f64x2_sqrt};
    f64x2_extract_lane::<0>(f64x2_sqrt(f64x2_splat(x)))
}

// ---- the log --------------------------------------------------------------------------

/// How much a line of the log matters.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Level {
    /// For those who look for a mistake.
    Debug = -4,
    /// What happened.
    Info = 0,
    /// What somebody should look at.
    Warn = 4,
    /// What is wrong.
    Error = 8,
}

/// A line of at most 1 KiB, which is what the server keeps of one.
struct Line {
    text: [u8; 1024],
    len: usize,
}

impl Line {
    const fn new() -> Line {
        Line { text: [0; 1024], len: 0 }
    }
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.len().min(self.text.len() - self.len);
        self.text[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

#[cfg(target_arch = "wasm32")]
mod host {
    #[link(wasm_import_module = "rapport")]
    extern "C" {
        pub fn log(level: i32, text: *const u8, size: usize);
    }

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    extern "C" {
        pub fn fd_write(descriptor: i32, pieces: *const Piece, count: usize, written: *mut usize) -> i32;
    }

    #[repr(C)]
    pub struct Piece {
        pub text: *const u8,
        pub size: usize,
    }
}

/// Writes a line to the server's log, which keeps the first few lines of a call:
/// `rapport::log!(Level::Warn, "{} candidates", d.len())`.
#[macro_export]
macro_rules! log {
    ($level:expr, $($text:tt)*) => { $crate::write_log($level, core::format_args!($($text)*)) };
}

#[doc(hidden)]
pub fn write_log(level: Level, text: fmt::Arguments) {
    let mut line = Line::new();
    let _ = line.write_fmt(text);
    #[cfg(target_arch = "wasm32")]
    unsafe {
        host::log(level as i32, line.text.as_ptr(), line.len)
    }
    let _ = level;
}

/// A panic is a fault, and its message that of the fault.
#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let mut line = Line::new();
    let _ = write!(line, "panic: {}", info);
    let piece = host::Piece { text: line.text.as_ptr(), size: line.len };
    unsafe { host::fd_write(2, &piece, 1, &mut 0) };
    core::arch::wasm32::unreachable()
}

// ---- what the module exports ----------------------------------------------------------

/// Declares a strategy. README.md has all that may be declared.
#[macro_export]
macro_rules! strategy {
    (
        name: $name:literal,
        version: $version:literal,
        description: $description:literal,
        $(budget: $base:literal, $per_candidate:literal,)?
        $(says_chances: $says:literal,)?
        $(profile { $($pk:ident $pn:ident = $pt:literal;)* })?
        $(offer { $($ok:ident $on:ident = $ot:literal;)* })?
        $(channel { $($hk:ident $hn:ident = $ht:literal;)* })?
        $(candidate { $($cn:ident = $ct:literal;)* })?
        $(parameters { $($an:ident = $at:literal, $standard:literal, $least:literal, $most:literal;)* })?
        $(reasons { $($rn:ident;)* })?
        rank: $rank:path $(,)?
    ) => {
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code, clippy::upper_case_acronyms)]
        mod rapport_places {
            pub enum Profile { $($($pn,)*)? Count }
            pub enum Offer { $($($on,)*)? Count }
            pub enum Channel { $($($hn,)*)? Count }
            pub enum Candidate { $($($cn,)*)? Count }
            pub enum Parameters { $($($an,)*)? Count }
            pub enum Reasons { NoReason, $($($rn,)*)? }
        }
        $($(const $pn: $crate::profile_type!($pk) = $crate::profile_type!($pk)(rapport_places::Profile::$pn as usize);)*)?
        $($(const $on: $crate::offer_type!($ok) = $crate::offer_type!($ok)(rapport_places::Offer::$on as usize);)*)?
        $($(const $hn: $crate::channel_type!($hk) = $crate::channel_type!($hk)(rapport_places::Channel::$hn as usize);)*)?
        $($(const $cn: $crate::Column = $crate::Column(rapport_places::Candidate::$cn as usize);)*)?
        $($(const $an: $crate::Parameter = $crate::Parameter(rapport_places::Parameters::$an as usize);)*)?
        $($(const $rn: $crate::Reason = $crate::Reason(rapport_places::Reasons::$rn as u32);)*)?

        $($(const _: () = assert!(
            $least as f64 <= $standard as f64 && $standard as f64 <= $most as f64,
            concat!("the default of the parameter ", $at, " is not within its bounds"),
        );)*)?

        #[doc(hidden)]
        const RAPPORT_MANIFEST: $crate::module::Manifest = $crate::module::Manifest {
            name: $name,
            version: $version,
            description: $description,
            profile: concat!("", $($(",{\"name\":\"", $pt, "\",\"type\":\"", stringify!($pk), "\"}",)*)?),
            offer: concat!("", $($(",{\"name\":\"", $ot, "\",\"type\":\"", stringify!($ok), "\"}",)*)?),
            channel: concat!("", $($(",{\"name\":\"", $ht, "\",\"type\":\"", stringify!($hk), "\"}",)*)?),
            candidate: concat!("", $($(",\"", $ct, "\"",)*)?),
            parameters: concat!("", $($(
                ",{\"name\":\"", $at, "\",\"default\":", stringify!($standard),
                ",\"min\":", stringify!($least), ",\"max\":", stringify!($most), "}",
            )*)?),
            reasons: concat!("", $($(",\"", stringify!($rn), "\"",)*)?),
            end: concat!("]", $(",\"fuel\":{\"base\":", stringify!($base), ",\"per_candidate\":", stringify!($per_candidate), "}",)?),
            chances: false $(|| $says)?,
            counts: [
                rapport_places::Profile::Count as u32,
                rapport_places::Offer::Count as u32,
                rapport_places::Channel::Count as u32,
                rapport_places::Candidate::Count as u32,
                rapport_places::Parameters::Count as u32,
            ],
        };

        #[doc(hidden)]
        static RAPPORT_JSON: [u8; RAPPORT_MANIFEST.size()] = RAPPORT_MANIFEST.json();

        #[no_mangle]
        pub extern "C" fn rapport_abi_1() {}

        #[no_mangle]
        pub extern "C" fn rapport_describe() -> u64 {
            (RAPPORT_JSON.as_ptr() as u64) << 32 | RAPPORT_JSON.len() as u64
        }

        #[no_mangle]
        pub extern "C" fn rapport_arena(size: usize) -> usize {
            $crate::module::arena(size)
        }

        #[no_mangle]
        pub extern "C" fn rapport_configure(at: usize, size: usize) -> u32 {
            $crate::module::configure(&RAPPORT_MANIFEST, at, size)
        }

        #[no_mangle]
        pub extern "C" fn rapport_rank(size: u32) -> u64 {
            $crate::module::rank(&RAPPORT_MANIFEST, size, $rank)
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! profile_type {
    (number) => { $crate::NumberField };
    (flag) => { $crate::FlagField };
    (text) => { $crate::TextField };
    (time) => { $crate::TimeField };
    (set) => { $crate::SetField };
}

#[doc(hidden)]
#[macro_export]
macro_rules! offer_type {
    (number) => { $crate::OfferNumber };
    (flag) => { $crate::OfferFlag };
    (text) => { $crate::OfferText };
}

#[doc(hidden)]
#[macro_export]
macro_rules! channel_type {
    (number) => { $crate::ChannelNumber };
    (flag) => { $crate::ChannelFlag };
    (text) => { $crate::ChannelText };
}

/// What the macro calls. Not for authors.
#[doc(hidden)]
pub mod module {
    use super::*;

    /// The manifest in pieces. Each item of a list begins with a comma; the first one's is
    /// left out.
    pub struct Manifest {
        pub name: &'static str,
        pub version: &'static str,
        pub description: &'static str,
        pub profile: &'static str,
        pub offer: &'static str,
        pub channel: &'static str,
        pub candidate: &'static str,
        pub parameters: &'static str,
        pub reasons: &'static str,
        pub end: &'static str,
        pub chances: bool,
        pub counts: [u32; 5], // profile, offer, channel, candidate, parameters
    }

    /// JSON that is being put together, or measured if it has no room.
    struct Json<const N: usize> {
        text: [u8; N],
        len: usize,
    }

    impl<const N: usize> Json<N> {
        const fn put(mut self, byte: u8) -> Self {
            if self.len < N {
                self.text[self.len] = byte;
            }
            self.len += 1;
            self
        }

        const fn text(mut self, s: &str, from: usize) -> Self {
            let b = s.as_bytes();
            let mut i = from;
            while i < b.len() {
                self = self.put(b[i]);
                i += 1;
            }
            self
        }

        const fn list(self, before: &str, items: &str) -> Self {
            self.text(before, 0).text(items, 1)
        }

        const fn escaped(mut self, s: &str) -> Self {
            let b = s.as_bytes();
            let mut i = 0;
            while i < b.len() {
                let c = b[i];
                if c < b' ' {
                    let hex = b"0123456789abcdef";
                    self = self.text("\\u00", 0).put(hex[(c >> 4) as usize]).put(hex[(c & 15) as usize]);
                } else {
                    if c == b'"' || c == b'\\' {
                        self = self.put(b'\\');
                    }
                    self = self.put(c);
                }
                i += 1;
            }
            self
        }
    }

    impl Manifest {
        const fn build<const N: usize>(&self) -> Json<N> {
            Json { text: [0; N], len: 0 }
                .text("{\"abi\":1,\"name\":\"", 0)
                .escaped(self.name)
                .text("\",\"version\":\"", 0)
                .escaped(self.version)
                .text("\",\"description\":\"", 0)
                .escaped(self.description)
                .list("\",\"profile\":[", self.profile)
                .list("],\"offer\":[", self.offer)
                .list("],\"channel\":[", self.channel)
                .list("],\"candidate\":[", self.candidate)
                .list("],\"parameters\":[", self.parameters)
                .list("],\"reasons\":[", self.reasons)
                .text(self.end, 0)
                .text(if self.chances { ",\"probability\":true}" } else { "}" }, 0)
        }

        pub const fn size(&self) -> usize {
            self.build::<0>().len
        }

        pub const fn json<const N: usize>(&self) -> [u8; N] {
            self.build::<N>().text
        }
    }

    const ALIGN: usize = 64;
    const PAGE: usize = 65_536;

    static mut ARENA: usize = 0;

    /// The arena is behind the module's own memory, which grows by what it needs.
    #[cfg(target_arch = "wasm32")]
    pub fn arena(size: usize) -> usize {
        use core::arch::wasm32::{memory_grow, memory_size};
        extern "C" {
            static __heap_base: u8;
        }
        let at = unsafe { core::ptr::addr_of!(__heap_base) as usize + ALIGN - 1 } & !(ALIGN - 1);
        let have = memory_size(0) * PAGE;
        let end = match at.checked_add(size) {
            Some(end) => end,
            None => return 0,
        };
        if end > have && memory_grow(0, (end - have + PAGE - 1) / PAGE) == usize::MAX {
            return 0;
        }
        unsafe { ARENA = at };
        at
    }

    /// There is none outside of WebAssembly.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn arena(_: usize) -> usize {
        let _ = (ALIGN, PAGE);
        0
    }

    pub fn configure(m: &Manifest, at: usize, size: usize) -> u32 {
        if at != unsafe { ARENA } || size < core::mem::size_of::<Static>() {
            return BAD_STATIC;
        }
        let s = unsafe { &*(at as *const Static) };
        let [_, offer, channel, _, parameters] = m.counts;
        let fits = s.magic == STATIC_MAGIC
            && s.version == VERSION
            && s.parameters == parameters
            && s.offer_columns == offer
            && s.channel_columns == channel;
        if fits {
            0
        } else {
            BAD_STATIC
        }
    }

    /// A part of a block.
    unsafe fn part<T>(block: usize, at: u32, count: usize) -> &'static [T] {
        core::slice::from_raw_parts((block + at as usize) as *const T, count)
    }

    pub fn rank(m: &Manifest, size: u32, rank: fn(&Decision)) -> u64 {
        let block = unsafe { ARENA };
        let s = unsafe { &*(block as *const Static) };
        let frame = block + s.frame_at as usize;
        let f = unsafe { &*(frame as *const Frame) };
        let [profile, offer, channel, columns, parameters] = m.counts;
        let fits = f.magic == FRAME_MAGIC
            && f.version == VERSION
            && f.size == size
            && f.profile == profile
            && f.columns == columns
            && (f.chance_at != 0) == m.chances;
        if !fits {
            return BAD_FRAME;
        }
        let n = f.candidates as usize;
        let rows = s.candidates as usize;
        let words = (rows + 63) / 64;
        let d = unsafe {
            Decision {
                now: f.now,
                presence: part(frame, f.presence_at, (profile as usize + 63) / 64),
                cells: part(frame, f.cells_at, profile as usize),
                strings: part(frame, f.strings_at, f.strings_size as usize),
                index: part(frame, f.index_at, n),
                columns: part(frame, f.columns_at, n * columns as usize),
                parameters: part(block, s.parameters_at, parameters as usize),
                offer: Table {
                    cells: part(block, s.offer_at, rows * offer as usize),
                    presence: part(block, s.offer_presence_at, words * offer as usize),
                    rows,
                },
                channel: Table {
                    cells: part(block, s.channel_at, rows * channel as usize),
                    presence: part(block, s.channel_presence_at, words * channel as usize),
                    rows,
                },
                fixed_strings: part(block, s.strings_at, s.strings_size as usize),
                score: part(frame, f.score_at, n),
                reason: part(frame, f.reason_at, n),
                veto: part(frame, f.veto_at, (n + 63) / 64),
                chance: part(frame, f.chance_at, if m.chances { n } else { 0 }),
                rand: Rand::new(f.seed),
            }
        };
        rank(&d);
        (n as u64) << 32
    }
}
