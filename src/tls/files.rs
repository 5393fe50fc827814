//! PEM files of certificates and keys. An error about one that can't be used says which command makes a good one.

use std::{path::Path, sync::Arc};

use anyhow::{Context, anyhow, bail};
use rustls::{
    Error, InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::provider;

/// The object identifier of the curve P-521 (secp521r1), as DER has it.
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// The error names the file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("can't read {}", path.display()))
}

/// All certificates of a file, at least one.
pub(super) fn certificates(pem: &[u8], path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let named = || path.display().to_string();
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().with_context(named)?;
    if chain.is_empty() {
        bail!("{}: there is no certificate in it", path.display());
    }
    Ok(chain)
}

/// A certificate chain and its key, each with its file: the identity of one side.
pub(crate) fn identity(
    (chain, chain_path): (&[u8], &Path),
    (key, key_path): (&[u8], &Path),
) -> anyhow::Result<Arc<SingleCertAndKey>> {
    let chain = certificates(chain, chain_path)?;
    let der = private_key(key, key_path)?;
    let signs =
        provider().key_provider.load_private_key(der.clone_key()).map_err(|error| unusable(&der, key_path, &error))?;
    let identity = CertifiedKey::new(chain, signs);
    match identity.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            bail!("{} is not the key of {}", key_path.display(), chain_path.display())
        }
        // A certificate of version 1 can't be compared with its key here, but can be used: the other side decides.
        _ => Ok(Arc::new(SingleCertAndKey::from(identity))),
    }
}

fn private_key(pem: &[u8], path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let path = path.display();
    let is_encrypted = |line: &[u8]| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY") || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
    };
    if pem.split(|byte| *byte == b'\n').any(is_encrypted) {
        bail!(
            "{path}: the key is encrypted, and nobody can type its passphrase here: `openssl pkey -in {path} -out plain.key` \
               writes it without one"
        );
    }
    PrivateKeyDer::from_pem_slice(pem).with_context(|| format!("{path}: there is no private key in it"))
}

fn unusable(key: &PrivateKeyDer<'_>, path: &Path, error: &Error) -> anyhow::Error {
    let path = path.display();
    if is_p521(key.secret_der()) {
        return anyhow!("{path}: a key of the curve P-521 can't be used. {}", make("a key and certificate of P-256"));
    }
    anyhow!("{path}: {error}")
}

pub(super) fn is_p521(der: &[u8]) -> bool {
    der.windows(P521.len()).any(|part| part == P521)
}

/// The command that makes a certificate which is accepted here.
pub(super) fn make(what: &str) -> String {
    format!(
        "This makes {what}: `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -keyout tls.key \
         -out tls.pem -subj /CN=NAME -addext subjectAltName=DNS:NAME`"
    )
}
