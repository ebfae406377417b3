//! The server's certificate, read again when its files change.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Longest certificate or key file.
const BYTES_MAX: u64 = 1 << 20;

/// Where the certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePaths {
    /// The server's certificate and those that vouch for it, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Files that make no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// A file is too long to be what it should be.
    #[error("{0}: more than {BYTES_MAX} bytes")]
    TooLong(PathBuf),
    /// A file does not hold what it should.
    #[error("{0}: {1}")]
    Pem(PathBuf, pem::Error),
    /// A file without a certificate in it.
    #[error("{0}: no certificate in it")]
    Nothing(PathBuf),
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("{0} and {1}: {2}")]
    Pair(PathBuf, PathBuf, rustls::Error),
}

/// What connections are answered with: as long as there is none, they are refused.
pub struct Certificate {
    paths: CertificatePaths,
    provider: Arc<CryptoProvider>,
    current: RwLock<Option<Arc<CertifiedKey>>>,
    /// The files as they were last looked at.
    seen: RwLock<Option<[Vec<u8>; 2]>>,
}

impl Certificate {
    /// Nothing is read before [`Self::look`].
    pub fn new(paths: CertificatePaths) -> Arc<Self> {
        Arc::new(Self {
            paths,
            provider: Arc::new(aws_lc_rs::default_provider()),
            current: RwLock::default(),
            seen: RwLock::default(),
        })
    }

    /// Reads the files; true when they make another certificate than before. What cannot be used leaves the one
    /// before in force, and is an error once: files are replaced one after the other.
    pub fn look(&self) -> Result<bool, CertificateError> {
        let found = [read(&self.paths.certificate)?, read(&self.paths.key)?];
        {
            let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
            if seen.as_ref() == Some(&found) {
                return Ok(false);
            }
            *seen = Some(found.clone());
        }
        let certified = self.pair(&found)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(certified));
        Ok(true)
    }

    /// Whether there is one to answer with.
    pub fn is_there(&self) -> bool {
        self.current().is_some()
    }

    /// TLS with it, without certificates of clients: the autoscaler has none (createGRPCClient, grpc_client.go).
    pub fn server(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let mut config = builder
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        // grpc-go refuses a server that does not agree on HTTP/2 by ALPN.
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn pair(&self, [certificate, key]: &[Vec<u8>; 2]) -> Result<CertifiedKey, CertificateError> {
        let paths = &self.paths;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain =
            chain.map_err(|reason| CertificateError::Pem(paths.certificate.clone(), reason))?;
        if chain.is_empty() {
            return Err(CertificateError::Nothing(paths.certificate.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|reason| CertificateError::Pem(paths.key.clone(), reason))?;
        CertifiedKey::from_der(chain, key, &self.provider).map_err(|reason| {
            CertificateError::Pair(paths.certificate.clone(), paths.key.clone(), reason)
        })
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.paths).finish()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |reason| CertificateError::Io(path.to_owned(), reason);
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(failed)?.take(BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(CertificateError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::generate_simple_self_signed;

    use super::*;

    #[test]
    fn a_pair_that_is_replaced_half_stays_in_force_until_both_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let paths = CertificatePaths {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
        };
        let certificate = Certificate::new(paths.clone());
        assert!(matches!(
            certificate.look(),
            Err(CertificateError::Io(path, _)) if path == paths.certificate
        ));
        assert!(!certificate.is_there());

        let made = || generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (first, second) = (made(), made());
        fs::write(&paths.certificate, first.cert.pem()).unwrap();
        fs::write(&paths.key, first.signing_key.serialize_pem()).unwrap();
        assert!(certificate.look().unwrap());
        assert!(!certificate.look().unwrap());
        let leaf = |certificate: &Certificate| certificate.current().unwrap().cert[0].clone();
        assert_eq!(leaf(&certificate), *first.cert.der());

        fs::write(&paths.certificate, second.cert.pem()).unwrap();
        assert!(matches!(
            certificate.look(),
            Err(CertificateError::Pair(..))
        ));
        assert!(!certificate.look().unwrap());
        assert_eq!(leaf(&certificate), *first.cert.der());
        fs::write(&paths.key, second.signing_key.serialize_pem()).unwrap();
        assert!(certificate.look().unwrap());
        assert_eq!(leaf(&certificate), *second.cert.der());

        fs::write(&paths.key, "no key").unwrap();
        let error = certificate.look().unwrap_err().to_string();
        assert!(error.contains("tls.key"), "{error}");
        fs::write(&paths.key, vec![b'#'; BYTES_MAX as usize + 1]).unwrap();
        assert!(matches!(
            certificate.look(),
            Err(CertificateError::TooLong(_))
        ));
    }
}
