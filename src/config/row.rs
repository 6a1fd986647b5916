//! A setting's row, and the names derived from it.

use super::error::Invalid;
use super::reader::{Node, Reader};
use super::{
    Cache, Config, Facade, Invalidation, Limits, Log, Metrics, Policy, PubSub, Routing, Sentinel, Server, Upstream,
    UpstreamTls,
};

/// How a value is written outside a TOML file, where quotes would be in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it is: `512mb`.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Bool,
    /// One item as it is, or several as a TOML list: `["127.0.0.1:6380", "[::1]:6380"]`.
    List,
    /// A TOML list of tables: `[{ name = "a", match = "a:*", ttl = "5s" }]`.
    Tables,
}

/// One setting.
#[derive(Debug)]
pub struct Row {
    /// Its full name, as in `cache.max_memory`.
    pub key: &'static str,
    /// How it is written outside a file.
    pub shape: Shape,
    /// What a value looks like, as in `a size such as 64kb or 512mb`.
    pub wanted: &'static str,
    pub(super) help: &'static str,
    pub(super) default: fn() -> String,
    pub(super) range: fn() -> Option<(String, String)>,
    pub(super) read: fn(&mut Config, &Node<'_>, &mut Reader<'_>),
    pub(super) check: fn(&Config) -> Result<(), Invalid>,
}

impl Row {
    /// The section it stands in (`server.limits`), empty for a setting at the top of the file.
    pub fn section(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within the section.
    pub fn name(&self) -> &'static str {
        self.key.rsplit_once('.').map_or(self.key, |(_, name)| name)
    }

    /// What it does and when to change it, in Markdown.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }

    /// Its default, as it would stand in a file.
    pub fn default_toml(&self) -> String {
        (self.default)()
    }

    /// The least and the most it may be, as they would stand in a file.
    pub fn range_toml(&self) -> Option<(String, String)> {
        (self.range)()
    }
}

/// A table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name, as in `server.limits`.
    pub name: &'static str,
    about: &'static str,
    rows: &'static [Row],
}

impl Section {
    const fn new(name: &'static str, about: &'static str, rows: &'static [Row]) -> Self {
        Self { name, about, rows }
    }

    /// What its settings are about.
    pub fn about(&self) -> &'static str {
        self.about.trim()
    }

    /// Its settings, in the order in which they are explained.
    pub fn rows(&self) -> &'static [Row] {
        self.rows
    }
}

/// All sections, in the order in which they are explained.
pub fn sections() -> &'static [Section] {
    const {
        &[
            Section::new("", "The file itself.", FILE),
            Section::new("server", Server::ABOUT, Server::ROWS),
            Section::new("server.limits", Limits::ABOUT, Limits::ROWS),
            Section::new("upstream", Upstream::ABOUT, Upstream::ROWS),
            Section::new("upstream.tls", UpstreamTls::ABOUT, UpstreamTls::ROWS),
            Section::new("sentinel", Sentinel::ABOUT, Sentinel::ROWS),
            Section::new("routing", Routing::ABOUT, Routing::ROWS),
            Section::new("facade", Facade::ABOUT, Facade::ROWS),
            Section::new("pubsub", PubSub::ABOUT, PubSub::ROWS),
            Section::new("cache", Cache::ABOUT, Cache::ROWS),
            Section::new("invalidation", Invalidation::ABOUT, Invalidation::ROWS),
            Section::new("policy", "Settings for some keys.", POLICY),
            Section::new("metrics", Metrics::ABOUT, Metrics::ROWS),
            Section::new("log", Log::ABOUT, Log::ROWS),
        ]
    }
}

/// All settings, in the order in which they are explained.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    sections().iter().flat_map(|section| section.rows)
}

/// The row of a setting, by its full name. Dashes count as underscores: flags are written with them.
pub fn find_row(key: &str) -> Option<&'static Row> {
    let key = key.replace('-', "_");
    rows().find(|row| row.key == key)
}

/// The environment variable of a setting: `NEARHIT_CACHE__MAX_MEMORY`.
pub fn env_name(row: &Row) -> String {
    format!("{ENV_PREFIX}{}", row.key.replace('.', "__").to_uppercase())
}

/// The flag of a setting: `--cache.max-memory`.
pub fn flag_name(row: &Row) -> String {
    format!("--{}", row.key.replace('_', "-"))
}

/// What every environment variable of nearhit begins with.
pub(super) const ENV_PREFIX: &str = "NEARHIT_";

/// The settings that stand above the first section.
const FILE: &[Row] = &[Row {
    key: "config_version",
    shape: Shape::Number,
    wanted: "the number 1",
    help: "Format of the settings; a file written for a newer format is refused.",
    default: || Config::default().config_version.to_string(),
    range: || None,
    read: |config, node, reader| super::setting::assign(&mut config.config_version, node, reader),
    check: |config| match config.config_version {
        1 => Ok(()),
        other => Err(Invalid::version(other)),
    },
}];

/// The policies: one row, because they are a list of tables.
const POLICY: &[Row] = &[Row {
    key: "policy",
    shape: Shape::Tables,
    wanted: "a list of policies, each with a name and a match",
    help: "Settings by key pattern, first match wins: `name`, `match` (a glob), `cache`, `ttl`, `max_entry`, `commands`, `hash_field_ttl`, `reads`.",
    default: || "[]".to_owned(),
    range: || None,
    read: |config, node, reader| super::setting::assign::<Vec<Policy>>(&mut config.policies, node, reader),
    check: |_| Ok(()),
}];

/// Writes a section: the struct, its defaults, and its rows.
///
/// `Name "section" (config => where it lies in Config) { rows } with { sections within }`. A row is its doc comment
/// (the help), `field: Type = default`, and `, in low..=high` when there is a range.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident $prefix:literal ($config:ident => $place:expr) {
            $( $(#[doc = $help:literal])+ $field:ident: $ty:ty = $default:expr $(, in $range:expr)?; )+
        }
        $( with { $( $(#[doc = $sub_about:literal])+ $sub:ident: $sub_ty:ty, )+ } )?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[doc = $help])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                $(#[doc = concat!(" Range: `", stringify!($range), "`.")])?
                pub $field: $ty,
            )+
            $( $( $(#[doc = $sub_about])+ pub $sub: $sub_ty, )+ )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ $( $( $sub: <$sub_ty>::default(), )+ )? }
            }
        }

        impl $name {
            pub(super) const ABOUT: &str = concat!($($about),+);
            pub(super) const ROWS: &[$crate::config::row::Row] = &[$(
                $crate::config::row::Row {
                    key: concat!($prefix, ".", stringify!($field)),
                    shape: <$ty as $crate::config::setting::Setting>::SHAPE,
                    wanted: <$ty as $crate::config::setting::Setting>::WANTED,
                    help: concat!($($help),+),
                    default: || $crate::config::setting::Setting::show(&<$name>::default().$field),
                    range: || section!(@range $ty $(, $range)?),
                    read: |$config, node, reader| {
                        $crate::config::setting::assign(&mut $place.$field, node, reader);
                    },
                    check: |$config| section!(@check $place.$field $(, $range)?),
                },
            )+];
        }
    };
    (@range $ty:ty) => { None };
    (@range $ty:ty, $range:expr) => { Some($crate::config::setting::show_range::<$ty>(&$range)) };
    (@check $value:expr) => {{
        let _ = &$value;
        Ok(())
    }};
    (@check $value:expr, $range:expr) => { $crate::config::setting::within(&$value, &$range) };
}
pub(super) use section;
