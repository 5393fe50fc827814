//! What is read of certificates and keys without a connection.

use std::path::Path;

use super::{ClientTls, files::identity};

/// Of `openssl genpkey -algorithm ed25519`, and encrypted; no certificate of it exists.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n\
                         -----END ENCRYPTED PRIVATE KEY-----\n";
const OLD_FORM: &str = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
                        -----END EC PRIVATE KEY-----\n";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

fn wrong(certificate: &str, key: &str) -> String {
    let [chain, key] = [(certificate, "a.pem"), (key, "a.key")].map(|(pem, path)| (pem.as_bytes(), Path::new(path)));
    format!("{:#}", identity(chain, key).expect_err("it can't be used"))
}

#[test]
fn what_is_wrong_with_a_pair_names_the_file_and_the_way_out() {
    for key in [ENCRYPTED, OLD_FORM] {
        let said = wrong(CERTIFICATE, key);
        assert!(said.starts_with("a.key: the key is encrypted") && said.contains("openssl pkey -in a.key"), "{said}");
    }
    let said = wrong(CERTIFICATE, CERTIFICATE);
    assert!(said.starts_with("a.key: there is no private key in it"), "{said}");
    let said = wrong(ENCRYPTED, ENCRYPTED);
    assert_eq!(said, "a.pem: there is no certificate in it");
}

#[test]
fn files_that_are_not_there_are_named() {
    let missing = || Some(Path::new("/nowhere/ca.pem").to_path_buf());
    let said = ClientTls { ca: missing(), ..ClientTls::default() }.config().expect_err("there is no such file");
    assert!(format!("{said:#}").starts_with("can't read /nowhere/ca.pem: "), "{said:#}");
}
