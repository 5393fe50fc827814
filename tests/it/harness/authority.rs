//! Certificates made by `openssl`: good ones, and those that must be refused.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::RulesDir;

/// An authority, and what it has signed: files that go with it.
pub(crate) struct Authority {
    dir: TempDir,
}

/// What `openssl ca` needs to be told, the only command that takes the dates of a certificate.
const CA: &str = "[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\nnew_certs_dir=.\nserial=serial.txt\ndefault_md=sha256\n\
                  policy=any\nunique_subject=no\n[any]\ncommonName=supplied\n";

impl Authority {
    pub(crate) fn new() -> Authority {
        let authority = Authority { dir: tempfile::tempdir().expect("a temporary directory") };
        authority.openssl(&["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca"]);
        for (file, text) in [("ca.cnf", CA), ("index.txt", ""), ("serial.txt", "01\n")] {
            std::fs::write(authority.file(file), text).expect("the directory is ours");
        }
        authority
    }

    /// Puts a new certificate of the server's, its key and this authority's own where Kubernetes would.
    pub(crate) fn mount_server(&self, mounted: &RulesDir, version: &str) {
        let [certificate, key] = self.sign("server").map(|file| std::fs::read_to_string(file).unwrap());
        let ca = String::from_utf8(self.pem()).unwrap();
        mounted.mount_config_map(version, &[("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", &ca)]);
    }

    /// Signs a certificate for `name`, with the DNS name `name.test`, and returns where it and its key are.
    pub(crate) fn sign(&self, name: &str) -> [PathBuf; 2] {
        self.sign_for(name, &format!("DNS:{name}.test"))
    }

    /// With other alternative names, as OpenSSL writes them.
    pub(crate) fn sign_for(&self, name: &str, names: &str) -> [PathBuf; 2] {
        self.sign_between(name, names, ["20200101000000Z", "20490101000000Z"])
    }

    /// A certificate whose time is over.
    pub(crate) fn expired(&self, name: &str, names: &str) -> [PathBuf; 2] {
        self.sign_between(name, names, ["20200101000000Z", "20200102000000Z"])
    }

    fn sign_between(&self, name: &str, names: &str, [from, to]: [&str; 2]) -> [PathBuf; 2] {
        let file = |extension: &str| format!("{name}.{extension}");
        std::fs::write(self.file(&file("ext")), format!("subjectAltName={names}\n")).expect("the directory is ours");
        self.openssl(&["req", "-keyout", &file("key"), "-out", &file("csr"), "-subj", &format!("/CN={name}")]);
        let signing = ["ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key"];
        let what = ["-extfile", &file("ext"), "-in", &file("csr"), "-out", &file("pem")];
        self.openssl(&[&signing[..], &what[..], &["-startdate", from, "-enddate", to]].concat());
        [self.file(&file("pem")), self.file(&file("key"))]
    }

    /// Signs a certificate as one does who gives no extensions: it is of version 1, and has no alternative names.
    pub(crate) fn sign_version_1(&self, name: &str) -> [PathBuf; 2] {
        let file = |extension: &str| format!("{name}.{extension}");
        self.openssl(&["req", "-keyout", &file("key"), "-out", &file("csr"), "-subj", &format!("/CN={name}")]);
        let signing = ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
        self.openssl(&[&signing[..], &["-in", &file("csr"), "-out", &file("pem")]].concat());
        [self.file(&file("pem")), self.file(&file("key"))]
    }

    fn openssl(&self, args: &[&str]) {
        let key: &[&str] = if args[0] == "req" { &new_key("P-256") } else { &[] };
        openssl(self.dir.path(), &[args, key].concat());
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its own certificate, as a file holds it.
    pub(crate) fn pem(&self) -> Vec<u8> {
        std::fs::read(self.file("ca.pem")).expect("it was made")
    }
}

fn new_key(curve: &str) -> [&str; 5] {
    let curve = if curve == "P-256" { "ec_paramgen_curve:P-256" } else { "ec_paramgen_curve:P-521" };
    ["-newkey", "ec", "-pkeyopt", curve, "-nodes"]
}

/// What `openssl req -x509` makes: a certificate that signs itself and calls itself an authority, with its key.
pub(crate) fn self_signed(folder: &Path, name: &str, names: &str, curve: &str) -> [PathBuf; 2] {
    let [certificate, key] = ["pem", "key"].map(|extension| format!("{name}.{extension}"));
    let (subject, names) = (format!("/CN={name}"), format!("subjectAltName={names}"));
    let what =
        ["req", "-x509", "-days", "2", "-keyout", &key, "-out", &certificate, "-subj", &subject, "-addext", &names];
    openssl(folder, &[&what[..], &new_key(curve)].concat());
    [folder.join(certificate), folder.join(key)]
}

/// Locks the key `name`.key of a folder with a passphrase, and returns where the locked one is.
pub(crate) fn encrypted(folder: &Path, key: &Path) -> PathBuf {
    let locked = folder.join("locked.key");
    let files = [key, &locked].map(|file| file.to_str().expect("temporary paths are text"));
    openssl(folder, &["pkcs8", "-topk8", "-in", files[0], "-out", files[1], "-passout", "pass:secret"]);
    locked
}

pub(crate) fn openssl(folder: &Path, args: &[&str]) {
    let mut command = Command::new("openssl");
    let output = command.args(args).current_dir(folder).stdout(Stdio::null()).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {args:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Puts files into a folder as a careful tool does: each whole, by a rename.
pub(crate) fn place(folder: &Path, name: &str, bytes: &[u8]) {
    let next = folder.join(format!(".{name}.next"));
    std::fs::write(&next, bytes).expect("the directory is ours");
    std::fs::rename(next, folder.join(name)).expect("the directory is ours");
}
