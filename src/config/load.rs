//! Loading: the layers one over the other, then the checks.

use std::path::{Path, PathBuf};

use super::error::{Code, ConfigError, ConfigErrors, Invalid, Place};
use super::layer::Loading;
use super::{Config, Secret, check};

impl Config {
    /// Reads all settings: `flags` win over `env`, `env` over the file, the file over the defaults.
    ///
    /// Flags are pairs such as `("cache.max-memory", "512mb")`. Of `env`, only names that begin with `NEARHIT_` count.
    /// A `password_file` is read here, into the `password` beside it.
    ///
    /// # Errors
    ///
    /// Every problem of every layer, each with its place.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        let mut loading = Loading::default();
        if let Some(path) = file {
            let name = path.display().to_string();
            match std::fs::read_to_string(path) {
                Ok(text) => loading.file(&name, &text),
                Err(error) => loading
                    .errors
                    .push(unreadable("", Place::WholeFile(name), &error, "a TOML file")),
            }
        }
        loading.environment(env);
        loading.flags(flags);
        finish(loading)
    }

    /// Reads settings from text, as if it stood in a file called `name`; no other layer is read.
    ///
    /// # Errors
    ///
    /// Every problem, each with its place.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigErrors> {
        let mut loading = Loading::default();
        loading.file(name, text);
        finish(loading)
    }

    /// Checks settings that were changed in code: ranges, and what they say together.
    ///
    /// # Errors
    ///
    /// Every problem, without a place.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let errors = check::all(self, &std::collections::HashMap::new());
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors(errors))
        }
    }
}

/// What remains once all layers are read.
fn finish(mut loading: Loading) -> Result<Config, ConfigErrors> {
    read_password_file(&mut loading, "upstream.password", "upstream.password_file", |config| {
        (&mut config.upstream.password, &mut config.upstream.password_file)
    });
    read_password_file(&mut loading, "sentinel.password", "sentinel.password_file", |config| {
        (&mut config.sentinel.password, &mut config.sentinel.password_file)
    });
    let Loading {
        config,
        places,
        mut errors,
    } = loading;
    errors.extend(check::all(&config, &places));
    errors.sort_by_key(|error| error.place.order());
    if errors.is_empty() {
        Ok(config)
    } else {
        Err(ConfigErrors(errors))
    }
}

/// Puts the content of `password_file` into `password`. They are one setting in two forms: the later layer wins, and
/// both in one layer contradict each other.
fn read_password_file(
    loading: &mut Loading,
    password_key: &str,
    file_key: &str,
    fields: impl Fn(&mut Config) -> (&mut Secret, &mut Option<PathBuf>),
) {
    let (password, password_file) = fields(&mut loading.config);
    let Some(path) = password_file.clone() else {
        return;
    };
    let place = loading.places.get(file_key).cloned().unwrap_or(Place::Code);
    if !password.is_empty() {
        let rank = loading.places.get(password_key).map_or(0, Place::rank);
        if rank > place.rank() {
            *password_file = None;
            return;
        }
        if rank == place.rank() {
            let invalid = Invalid::new(Code::Conflict, format!("{password_key} is given too"), "one of the two");
            loading.errors.push(ConfigError {
                key: file_key.to_owned(),
                place,
                invalid,
            });
            return;
        }
    }
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let line = text
                .strip_suffix('\n')
                .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
            if line.is_empty() {
                let invalid = Invalid::value(format!("{} is empty", path.display()), "a file that holds the password");
                loading.errors.push(ConfigError {
                    key: file_key.to_owned(),
                    place: place.clone(),
                    invalid,
                });
            }
            *password = Secret::new(line);
            loading.places.insert(password_key.to_owned(), place);
        }
        Err(error) => {
            let wanted = format!("{} to be readable", path.display());
            loading.errors.push(unreadable(file_key, place, &error, &wanted));
        }
    }
}

fn unreadable(key: &str, place: Place, error: &std::io::Error, wanted: &str) -> ConfigError {
    let message = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::InvalidData => "this is not UTF-8 text".to_owned(),
        std::io::ErrorKind::IsADirectory => "this is a directory".to_owned(),
        _ => error.to_string(),
    };
    ConfigError {
        key: key.to_owned(),
        place,
        invalid: Invalid::new(Code::Unreadable, message, wanted),
    }
}
