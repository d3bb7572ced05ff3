//! The trusted certificates of secure connections: those of the system, and one file of our own.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::error::SetupError;

/// Returns the configuration of secure connections; `None` if none is needed and the system trusts no certificate.
pub(super) fn config(ca_file: Option<&Path>, is_needed: bool) -> Result<Option<Arc<ClientConfig>>, SetupError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let failed = |reason: String| SetupError::CaFile { path: path.to_owned(), reason };
        let mut found = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            found = true;
        }
        if !found {
            return Err(failed("it holds no certificate".to_owned()));
        }
    }
    if roots.is_empty() {
        return if is_needed { Err(SetupError::NoCertificates) } else { Ok(None) };
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError::Tls(error.to_string()))?;
    Ok(Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}
