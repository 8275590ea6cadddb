//! Parts of HTTP clients that the hub and judges share.

use crate::{Error, Result};
use reqwest::Certificate;
use std::path::Path;

/// The certificates in a file, or in the files of a folder.
pub fn certificates(path: &Path) -> Result<Vec<Certificate>> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::hub(format!("no certificates can be read from {}", path.display()))
            .caused_by(cause)
            .hint("REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE name a file in PEM, or a folder of such files: correct or unset them")
    };
    let read = |file: &Path| -> std::result::Result<
        Vec<Certificate>,
        Box<dyn std::error::Error + Send + Sync>,
    > { Ok(Certificate::from_pem_bundle(&std::fs::read(file)?)?) };
    if !path.is_dir() {
        return read(path).map_err(failed);
    }
    let entries = std::fs::read_dir(path).map_err(|cause| failed(cause.into()))?;
    // Beside certificates a folder may hold revocation lists.
    Ok(entries
        .flatten()
        .filter_map(|entry| read(&entry.path()).ok())
        .flatten()
        .collect())
}

/// The innermost cause of a network error, since the outer layers only repeat the address.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
