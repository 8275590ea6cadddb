//! The environment variables of Python's `huggingface_hub`, read as it reads them (its
//! `constants.py` and `utils/_auth.py`).

use crate::{Error, Result};
use regex::{Captures, Regex};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ENDPOINT: &str = "https://huggingface.co";
const STAGING_ENDPOINT: &str = "https://hub-ci.huggingface.co";
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest timeout in seconds; a longer one has the same effect.
const LONGEST_TIMEOUT: u64 = 30 * 24 * 60 * 60;

/// The settings of a hub from the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The address of the hub, without a slash at its end.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Whether network access is forbidden.
    pub offline: bool,
    pub token: Option<Token>,
    /// The timeout of requests that ask what a file is.
    pub etag_timeout: Duration,
    /// The timeout of all other requests: the silence after which a connection counts as broken.
    pub download_timeout: Duration,
    pub progress_bars: bool,
    /// Whether a snapshot links to blobs instead of holding copies.
    pub symlinks: bool,
    /// Text that the user agent has after the program's name.
    pub user_agent_origin: Option<String>,
    /// Certificates in addition to the system's: a file, or a folder of files.
    pub certificates: Option<PathBuf>,
}

/// A secret and the place where it was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub secret: String,
    pub place: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(out, "Token from {}", self.place)
    }
}

impl Environment {
    /// The environment of this process.
    ///
    /// # Errors
    /// A timeout that is not a number, an endpoint that is not an address, a token that cannot be
    /// read.
    pub fn of_process() -> Result<Self> {
        Self::read(|name| std::env::var_os(name))
    }

    /// Settings from the values that `variable` returns for names.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let variables = Variables(&variable);
        let home = || variables.home(None).unwrap_or_else(|| "~".into());
        let cache_home = variables
            .raw("XDG_CACHE_HOME")
            .map_or_else(|| home().join(".cache"), PathBuf::from);
        let hf_home = variables.path("HF_HOME", cache_home.join("huggingface"));
        let legacy = variables
            .raw("HUGGINGFACE_HUB_CACHE")
            .map_or_else(|| hf_home.join("hub"), PathBuf::from);
        let cache = variables.path("HF_HUB_CACHE", legacy);
        let offline = variables
            .filled("HF_HUB_OFFLINE")
            .or_else(|| variables.filled("TRANSFORMERS_OFFLINE"));
        let token_path = variables.path("HF_TOKEN_PATH", hf_home.join("token"));
        let certificates = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].into_iter();
        let certificates = certificates
            .filter_map(|name| variables.raw(name))
            .find(|path| !path.is_empty());
        let offline = offline.is_some_and(|value| is_true(&value));
        let anonymous = offline || variables.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN");
        Ok(Self {
            endpoint: variables.endpoint()?,
            cache,
            offline,
            token: if anonymous {
                None
            } else {
                variables.token(&token_path)?
            },
            etag_timeout: variables.seconds("HF_HUB_ETAG_TIMEOUT")?,
            download_timeout: variables.seconds("HF_HUB_DOWNLOAD_TIMEOUT")?,
            progress_bars: !variables.is_true("HF_HUB_DISABLE_PROGRESS_BARS"),
            symlinks: !variables.is_true("HF_HUB_DISABLE_SYMLINKS"),
            user_agent_origin: variables.filled("HF_HUB_USER_AGENT_ORIGIN"),
            certificates: certificates.map(PathBuf::from),
        })
    }
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    fn raw(&self, name: &str) -> Option<OsString> {
        (self.0)(name)
    }

    /// The text of a variable if it is set and not empty.
    fn filled(&self, name: &str) -> Option<String> {
        self.raw(name)
            .map(|value| value.to_string_lossy().into_owned())
            .filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.filled(name).is_some_and(|value| is_true(&value))
    }

    /// The path that a variable names, or `otherwise`, with `~` and variables in it expanded.
    fn path(&self, name: &str, otherwise: PathBuf) -> PathBuf {
        let path = self.raw(name).unwrap_or(otherwise.into());
        self.with_variables(self.with_home(&path)).into()
    }

    fn endpoint(&self) -> Result<String> {
        if self.is_true("HUGGINGFACE_CO_STAGING") {
            return Ok(STAGING_ENDPOINT.to_owned());
        }
        let Some(text) = self.filled("HF_ENDPOINT") else {
            return Ok(ENDPOINT.to_owned());
        };
        let refused = |why: String| {
            Error::hub(format!(
                "HF_ENDPOINT is `{text}`, which is not the address of a hub"
            ))
            .caused_by(why)
            .hint("write it as https://huggingface.co, or unset it")
        };
        let url = reqwest::Url::parse(&text).map_err(|cause| refused(cause.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(text.trim_end_matches('/').to_owned()),
            scheme => Err(refused(format!("`{scheme}:` is neither http: nor https:"))),
        }
    }

    /// The seconds in a variable, or ten if it is 0 or not set.
    fn seconds(&self, name: &str) -> Result<Duration> {
        let Some(value) = self.raw(name) else {
            return Ok(TIMEOUT);
        };
        let text = value.to_string_lossy();
        match text.trim().replace('_', "").parse::<u64>() {
            Ok(0) => Ok(TIMEOUT),
            Ok(seconds) => Ok(Duration::from_secs(seconds.min(LONGEST_TIMEOUT))),
            Err(cause) => Err(Error::configuration(format!(
                "{name} is `{text}`, which is not a number of seconds"
            ))
            .caused_by(cause)
            .hint(format!("write a whole number, as {name}=10, or unset it"))),
        }
    }

    fn token(&self, file: &Path) -> Result<Option<Token>> {
        let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter();
        let named = named
            .filter_map(|name| Some((self.filled(name)?, name.to_owned())))
            .next();
        let token = match named.and_then(|(text, name)| token(&text, name)) {
            Some(token) => token,
            None => match std::fs::read(file) {
                Ok(bytes) => {
                    match token(&String::from_utf8_lossy(&bytes), file.display().to_string()) {
                        Some(token) => token,
                        None => return Ok(None),
                    }
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(cause) => {
                    return Err(Error::hub(format!(
                        "the hub's token cannot be read from {}",
                        file.display()
                    ))
                    .caused_by(cause)
                    .hint("set HF_TOKEN, or HF_HUB_DISABLE_IMPLICIT_TOKEN=1 to go without one"));
                }
            },
        };
        match token.secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Some(token)),
            false => Err(Error::hub(format!(
                "the hub's token from {} has characters that no token has",
                token.place
            ))
            .hint("write it anew with `hf auth login`, or set HF_TOKEN to it")),
        }
    }

    /// The equivalent of Python's `os.path.expanduser`.
    fn with_home(&self, path: &OsStr) -> OsString {
        let Some(text) = path.to_str().filter(|text| text.starts_with('~')) else {
            return path.to_owned();
        };
        let (user, rest) = text[1..].split_at(text[1..].find('/').unwrap_or(text.len() - 1));
        let Some(home) = self.home(Some(user).filter(|user| !user.is_empty())) else {
            return path.to_owned();
        };
        let mut expanded = match home.to_str() {
            Some(home) => home.trim_end_matches('/').into(),
            None => home.into_os_string(),
        };
        expanded.push(rest);
        if expanded.is_empty() {
            "/".into()
        } else {
            expanded
        }
    }

    /// The home folder of `user`, or of the current user.
    fn home(&self, user: Option<&str>) -> Option<PathBuf> {
        match (user, self.raw("HOME")) {
            (None, Some(home)) => Some(home.into()),
            (user, _) => home_of(user),
        }
    }

    /// The equivalent of Python's `os.path.expandvars`, which leaves unset variables as they are
    /// written.
    fn with_variables(&self, path: OsString) -> OsString {
        let Some(text) = path.to_str().filter(|text| text.contains('$')) else {
            return path;
        };
        // The pattern is a literal, so compiling it doesn't fail.
        let Ok(pattern) = Regex::new(r"\$(?:(\w+)|\{([^}]*)\})") else {
            return path;
        };
        let value = |found: &Captures| {
            let name = found
                .get(1)
                .or(found.get(2))
                .map_or("", |name| name.as_str());
            let whole = found.get(0).map_or("", |whole| whole.as_str());
            // Other names are not valid names of variables.
            let named = !name.is_empty() && !name.contains(['=', '\0']);
            let value = named.then(|| self.raw(name)).flatten();
            value
                .and_then(|value| value.into_string().ok())
                .unwrap_or_else(|| whole.to_owned())
        };
        pattern.replace_all(text, value).into_owned().into()
    }
}

#[cfg(unix)]
fn home_of(user: Option<&str>) -> Option<PathBuf> {
    use nix::unistd::{Uid, User};
    let found = match user {
        Some(name) => User::from_name(name),
        None => User::from_uid(Uid::current()),
    };
    found.ok().flatten().map(|user| user.dir)
}

#[cfg(not(unix))]
fn home_of(user: Option<&str>) -> Option<PathBuf> {
    if user.is_none() {
        std::env::home_dir()
    } else {
        None
    }
}

/// A token without the white space around it and the line ends in it, if anything is left.
fn token(text: &str, place: String) -> Option<Token> {
    let secret = text.replace(['\r', '\n'], "").trim().to_owned();
    (!secret.is_empty()).then_some(Token { secret, place })
}

/// Whether `huggingface_hub` reads the value as yes.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn read(set: &[(&str, &str)]) -> Result<Environment> {
        let find = |name: &str| {
            set.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).into())
        };
        // A home without a token, whoever runs the tests.
        let home = |name: &str| find(name).or_else(|| (name == "HOME").then(|| "/home/ada".into()));
        Environment::read(home)
    }

    fn cache(set: &[(&str, &str)]) -> String {
        read(set).unwrap().cache.display().to_string()
    }

    /// Every row was compared with `huggingface_hub.constants.HF_HUB_CACHE` of version 2.4.
    #[test]
    fn the_cache_is_where_python_has_it() {
        for (set, expected) in [
            (vec![], "/home/ada/.cache/huggingface/hub"),
            (vec![("HF_HOME", "/big/hf")], "/big/hf/hub"),
            (vec![("HF_HOME", "~/hf")], "/home/ada/hf/hub"),
            (vec![("HF_HOME", "~")], "/home/ada/hub"),
            (
                vec![("HF_HOME", "$SCRATCH/hf"), ("SCRATCH", "/scratch")],
                "/scratch/hf/hub",
            ),
            (
                vec![("HF_HOME", "${SCRATCH}_2/$NONE/${NONE}"), ("SCRATCH", "/s")],
                "/s_2/$NONE/${NONE}/hub",
            ),
            (vec![("HF_HOME", "$A"), ("A", "$B"), ("B", "/b")], "/b/hub"),
            (vec![("HF_HOME", "$A"), ("A", "~/x")], "/home/ada/x/hub"),
            (vec![("HF_HOME", "${A:-/x}")], "${A:-/x}/hub"),
            (
                vec![("HF_HOME", "~nobody-of-that-name/x")],
                "~nobody-of-that-name/x/hub",
            ),
            (vec![("HF_HOME", "x/~/y")], "x/~/y/hub"),
            (vec![("HF_HOME", "relative")], "relative/hub"),
            (vec![("HF_HOME", "")], "hub"),
            (vec![("HF_HOME", "~/hf"), ("HOME", "/")], "/hf/hub"),
            (
                vec![("HF_HOME", "~/hf"), ("HOME", "/home/a b/")],
                "/home/a b/hf/hub",
            ),
            (vec![("XDG_CACHE_HOME", "/xdg")], "/xdg/huggingface/hub"),
            (
                vec![("XDG_CACHE_HOME", "~/xdg")],
                "/home/ada/xdg/huggingface/hub",
            ),
            (vec![("XDG_CACHE_HOME", "")], "huggingface/hub"),
            (
                vec![("HF_HUB_CACHE", "~/hub"), ("HF_HOME", "/hf")],
                "/home/ada/hub",
            ),
            (
                vec![("HUGGINGFACE_HUB_CACHE", "$HOME/old")],
                "/home/ada/old",
            ),
            (
                vec![("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")],
                "/new",
            ),
            (vec![("HF_HUB_CACHE", "")], ""),
        ] {
            assert_eq!(cache(&set), expected, "{set:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn another_user_s_home_is_looked_up() {
        assert_eq!(
            cache(&[("HF_HOME", "~root/hf")]),
            home_of(Some("root"))
                .unwrap()
                .join("hf/hub")
                .display()
                .to_string()
        );
        let without = |name: &str| (name == "HF_HOME").then(|| "~/hf".into());
        assert_eq!(
            Environment::read(without).unwrap().cache,
            home_of(None).unwrap().join("hf/hub")
        );
    }

    #[test]
    fn yes_is_what_python_takes_for_yes() {
        let offline = |set: &[(&str, &str)]| read(set).unwrap().offline;
        for yes in ["1", "true", "True", "YES", "on"] {
            assert!(
                offline(&[("HF_HUB_OFFLINE", yes)]) && offline(&[("TRANSFORMERS_OFFLINE", yes)]),
                "{yes}"
            );
        }
        for no in ["", "0", "false", "no", " 1", "2", "enabled"] {
            assert!(!offline(&[("HF_HUB_OFFLINE", no)]), "{no}");
        }
        assert!(!offline(&[
            ("HF_HUB_OFFLINE", "0"),
            ("TRANSFORMERS_OFFLINE", "1")
        ]));
        assert!(offline(&[
            ("HF_HUB_OFFLINE", ""),
            ("TRANSFORMERS_OFFLINE", "1")
        ]));
        let quiet = read(&[
            ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
            ("HF_HUB_DISABLE_SYMLINKS", "on"),
        ])
        .unwrap();
        assert!(!quiet.progress_bars && !quiet.symlinks);
    }

    #[test]
    fn the_token_is_the_first_that_is_not_empty() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "  hf_file\r\n\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().copied().chain([("HF_HOME", home)]).collect();
            read(&set).unwrap().token.map(|token| token.secret)
        };
        for (set, expected) in [
            (vec![], Some("hf_file")),
            (
                vec![("HF_TOKEN", "hf_a"), ("HUGGING_FACE_HUB_TOKEN", "hf_b")],
                Some("hf_a"),
            ),
            (
                vec![("HF_TOKEN", ""), ("HUGGING_FACE_HUB_TOKEN", " hf_b\n")],
                Some("hf_b"),
            ),
            (vec![("HF_TOKEN", " \n")], Some("hf_file")),
            (vec![("HF_TOKEN_PATH", "/nowhere/token")], None),
            (vec![("HF_TOKEN_PATH", "$HF_HOME/token")], Some("hf_file")),
            (
                vec![("HF_TOKEN", "hf_a"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")],
                None,
            ),
            (
                vec![("HF_TOKEN", "hf_a"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0")],
                Some("hf_a"),
            ),
        ] {
            assert_eq!(token(&set).as_deref(), expected, "{set:?}");
        }
        let shown = format!("{:?}", read(&[("HF_TOKEN", "hf_secret")]).unwrap());
        assert!(
            !shown.contains("hf_secret") && shown.contains("HF_TOKEN"),
            "{shown}"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_the_variable_s_name() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        for (name, value, kind) in [
            ("HF_HUB_DOWNLOAD_TIMEOUT", "soon", ErrorKind::Configuration),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "", ErrorKind::Configuration),
            ("HF_HUB_ETAG_TIMEOUT", "-1", ErrorKind::Configuration),
            ("HF_ENDPOINT", "huggingface.co", ErrorKind::Hub),
            ("HF_ENDPOINT", "localhost:8080", ErrorKind::Hub),
            ("HF_TOKEN", "hf_ä", ErrorKind::Hub),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(error.kind(), kind, "{name}");
        }
        assert!(
            read(&[("HF_TOKEN_PATH", folder)])
                .unwrap_err()
                .to_string()
                .contains(folder)
        );
    }

    #[test]
    fn timeouts_and_endpoints_are_read() {
        let set = [
            ("HF_HUB_ETAG_TIMEOUT", " 30 "),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "0"),
            ("HF_ENDPOINT", "http://m:8/hf/"),
        ];
        let read = read(&set).unwrap();
        assert_eq!(
            (read.etag_timeout.as_secs(), read.download_timeout),
            (30, TIMEOUT)
        );
        assert_eq!(read.endpoint, "http://m:8/hf");
    }
}
