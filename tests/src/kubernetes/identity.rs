//! Who is who in a control plane: its certificates, and the kubeconfigs that carry them.

use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Where a control plane keeps them, as kubeadm does.
pub(super) const FOLDER: &str = "/etc/kubernetes";

/// The certificate authority of one control plane.
#[derive(Debug)]
pub(super) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    /// A new one.
    pub(super) fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        Ok(Self {
            certificate: params.self_signed(&key)?.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Its certificate: what a client must trust.
    #[must_use]
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Writes everything the servers need into `folder`, which they see as [`FOLDER`]. The API server is reached under `addresses`.
    pub(super) fn furnish(&self, folder: &Path, addresses: &[&str]) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
        write("ca.crt", &self.certificate)?;
        write("audit.yaml", super::audit::POLICY)?;
        // Signs the tokens of ServiceAccounts.
        let accounts = KeyPair::generate()?;
        write("sa.key", &accounts.serialize_pem())?;
        write("sa.pub", &accounts.public_key_pem())?;

        self.certify(folder, addresses)?;
        for (file, user, group) in [
            ("admin", "kubernetes-admin", "system:masters"),
            (
                "controller-manager",
                "system:kube-controller-manager",
                "system:kube-controller-manager",
            ),
        ] {
            let mut params = CertificateParams::default();
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
            let client = self.sign(params, user, ExtendedKeyUsagePurpose::ClientAuth)?;
            write(&format!("{file}.crt"), &client.certificate)?;
            write(&format!("{file}.key"), &client.key)?;
            write(&format!("{file}.conf"), &kubeconfig(file))?;
        }
        Ok(())
    }

    /// Gives the API server, which is reached under `addresses`, a new certificate.
    pub(super) fn certify(&self, folder: &Path, addresses: &[&str]) -> Result<()> {
        let names = ["localhost", "kubernetes.default.svc", "127.0.0.1"];
        let names = names.iter().chain(addresses);
        let names: Vec<String> = names.map(|&name| name.to_owned()).collect();
        let server = self.sign(
            CertificateParams::new(names)?,
            "kube-apiserver",
            ExtendedKeyUsagePurpose::ServerAuth,
        )?;
        std::fs::write(folder.join("apiserver.crt"), &server.certificate)?;
        std::fs::write(folder.join("apiserver.key"), &server.key)?;
        Ok(())
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Pair> {
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        Ok(Pair {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// Those who use it stand on the same node as the API server.
fn kubeconfig(user: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: lab
contexts: [{{name: lab, context: {{cluster: lab, user: {user}}}}}]
clusters: [{{name: lab, cluster: {{server: \"https://127.0.0.1:6443\", certificate-authority: {FOLDER}/ca.crt}}}}]
users: [{{name: {user}, user: {{client-certificate: {FOLDER}/{user}.crt, client-key: {FOLDER}/{user}.key}}}}]
"
    )
}
