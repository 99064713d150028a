//! The server's certificate, as the files of a control plane have it.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// Greets with `apiserver.crt`. Whoever comes is let in.
pub(crate) fn acceptor(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(folder.join("apiserver.crt"))
        .and_then(Iterator::collect)
        .with_context(|| format!("apiserver.crt in {}", folder.display()))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("apiserver.key"))
        .with_context(|| format!("apiserver.key in {}", folder.display()))?;
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
