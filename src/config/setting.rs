//! How a type is read from a value of a TOML file, and how it is shown in one.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::error::{Code, Invalid};
use super::reader::{Node, Reader};
use super::{
    AdminCommand, Admission, ByteSize, CacheMode, ClientName, EvictionKind, HttpPath, InvalidationMode, Listen,
    LogFormat, LogLevel, MonitorMode, OnLoss, PartitionBy, PresentAs, Reads, Secret, Shape, UpstreamUrl, duration,
    listen, size, url,
};

/// A type that can be set.
pub(super) trait Setting: Sized {
    /// How it is written outside a file.
    const SHAPE: Shape;
    /// What a value looks like, behind "expected".
    const WANTED: &'static str;

    /// Reads a value; what is wrong with it goes to `reader`, and then there is none.
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self>;

    /// Writes it as it would stand in a file; a secret as `***`.
    fn show(&self) -> String;
}

/// Reads a value into its field; when it is refused the field keeps what it has.
pub(super) fn assign<T: Setting>(field: &mut T, node: &Node<'_>, reader: &mut Reader<'_>) {
    if let Some(value) = T::read(node, reader) {
        *field = value;
    }
}

/// Checks a value against its row's range.
pub(super) fn within<T: Setting + PartialOrd>(value: &T, range: &RangeInclusive<T>) -> Result<(), Invalid> {
    if range.contains(value) {
        return Ok(());
    }
    let (low, high) = show_range(range);
    Err(Invalid::new(
        Code::OutOfRange,
        format!("{} is out of range", value.show()),
        format!("{low} to {high}"),
    ))
}

/// Both ends of a range, as they would stand in a file.
pub(super) fn show_range<T: Setting>(range: &RangeInclusive<T>) -> (String, String) {
    (range.start().show(), range.end().show())
}

/// Reads text and parses it.
pub(super) fn read_text<T>(
    node: &Node<'_>,
    reader: &mut Reader<'_>,
    wanted: &str,
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Option<T> {
    let Some(text) = node.get_ref().as_str() else {
        reader.wrong_type(node, wanted);
        return None;
    };
    parse(text).map_err(|invalid| reader.refuse(node.span(), invalid)).ok()
}

/// Implements [`Setting`] for types that are text in quotes.
macro_rules! text_settings {
    ($( $ty:ty, $wanted:expr, $parse:expr, $show:expr; )+) => {$(
        impl Setting for $ty {
            const SHAPE: Shape = Shape::Text;
            const WANTED: &'static str = $wanted;

            fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                read_text(node, reader, Self::WANTED, $parse)
            }

            fn show(&self) -> String {
                let show: fn(&Self) -> String = $show;
                quoted(&show(self))
            }
        }
    )+};
}

text_settings! {
    String, "text", |text| Ok(text.to_owned()), Self::clone;
    Secret, "text", |text| Ok(Self::new(text)), ToString::to_string;
    Duration, duration::WANTED, duration::parse, |value| duration::show(*value);
    UpstreamUrl, url::WANTED, str::parse, |url| shown(url);
    CacheMode, Self::WANTED, str::parse, ToString::to_string;
    Admission, Self::WANTED, str::parse, ToString::to_string;
    EvictionKind, Self::WANTED, str::parse, ToString::to_string;
    InvalidationMode, Self::WANTED, str::parse, ToString::to_string;
    OnLoss, Self::WANTED, str::parse, ToString::to_string;
    Reads, Self::WANTED, str::parse, ToString::to_string;
    PartitionBy, Self::WANTED, str::parse, ToString::to_string;
    LogFormat, Self::WANTED, str::parse, ToString::to_string;
    MonitorMode, Self::WANTED, str::parse, ToString::to_string;
    PresentAs, Self::WANTED, str::parse, ToString::to_string;
    LogLevel, Self::WANTED, str::parse, ToString::to_string;
    ClientName, Self::WANTED, str::parse, ToString::to_string;
    AdminCommand, Self::WANTED, str::parse, ToString::to_string;
    HttpPath, Self::WANTED, str::parse, ToString::to_string;
    Listen, listen::WANTED, str::parse, ToString::to_string;
    Option<PathBuf>, "a path, or \"\" for none",
        |text| Ok((!text.is_empty()).then(|| PathBuf::from(text))),
        |path| path.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    Option<SocketAddr>, "ip:port or [ipv6]:port, or \"\" for off", read_optional_address,
        |address| address.map(|address| address.to_string()).unwrap_or_default();
}

/// A URL without the database clients start in anyway.
fn shown(url: &UpstreamUrl) -> String {
    let text = url.to_string();
    text.strip_suffix("/0").unwrap_or(&text).to_owned()
}

/// Reads `ip:port`, or nothing.
fn read_optional_address(text: &str) -> Result<Option<SocketAddr>, Invalid> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<Listen>() {
        Ok(Listen::Tcp(address)) => Ok(Some(address)),
        Ok(Listen::Unix { .. }) => Err(Invalid::value(
            "this listener is TCP only",
            <Option<SocketAddr>>::WANTED,
        )),
        Err(invalid) => Err(Invalid {
            expected: <Option<SocketAddr>>::WANTED.to_owned(),
            ..invalid
        }),
    }
}

impl Setting for ByteSize {
    const SHAPE: Shape = Shape::Text;
    const WANTED: &'static str = size::WANTED;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Integer(_) => u64::read(node, reader).map(Self::new),
            _ => read_text(node, reader, Self::WANTED, str::parse),
        }
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for bool {
    const SHAPE: Shape = Shape::Bool;
    const WANTED: &'static str = "true or false";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let value = node.get_ref().as_bool();
        if value.is_none() {
            reader.wrong_type(node, Self::WANTED);
        }
        value
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Implements [`Setting`] for whole numbers.
macro_rules! number_settings {
    ($($ty:ty)+) => {$(
        impl Setting for $ty {
            const SHAPE: Shape = Shape::Number;
            const WANTED: &'static str = "a whole number";

            fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                let Some(number) = node.get_ref().as_integer() else {
                    reader.wrong_type(node, Self::WANTED);
                    return None;
                };
                let value = Self::from_str_radix(number.as_str(), number.radix()).ok();
                if value.is_none() {
                    reader.out_of_range(node.span(), number);
                }
                value
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

number_settings! { u32 u64 usize }

/// Implements [`Setting`] for lists.
macro_rules! list_settings {
    ($( $item:ty, $wanted:expr; )+) => {$(
        impl Setting for Vec<$item> {
            const SHAPE: Shape = Shape::List;
            const WANTED: &'static str = $wanted;

            fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                read_list(node, reader)
            }

            fn show(&self) -> String {
                format!("[{}]", self.iter().map(Setting::show).collect::<Vec<_>>().join(", "))
            }
        }
    )+};
}

list_settings! {
    Listen, "a list of ip:port, [ipv6]:port or unix:///path?mode=0660";
    String, "a list of texts";
}

fn read_list<T: Setting>(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<T>>
where
    Vec<T>: Setting,
{
    let wanted = <Vec<T>>::WANTED;
    let Some(nodes) = node.get_ref().as_array() else {
        match node.get_ref().as_str() {
            Some(text) => {
                let invalid = Invalid::new(Code::WrongType, "this is text", wanted);
                reader.refuse(node.span(), invalid.help(format!("write [\"{text}\"]")));
            }
            None => reader.wrong_type(node, wanted),
        }
        return None;
    };
    let mut items = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let item = reader.within(&format!("[{index}]"), |reader| {
            reader.note(node.span());
            T::read(node, reader)
        });
        items.extend(item);
    }
    (items.len() == nodes.len()).then_some(items)
}

/// Text as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
