//! TLS to a real server, whose certificate is of an authority of the test's own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use outlast_saga::store::postgres::{Config, Postgres};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::server::Server;

/// An authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Authority { pem, issuer }
    }

    /// A certificate for an address, or a client's for its name, and its key.
    fn issue(&self, names: &[&str], client: Option<&str>) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        if let Some(client) = client {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, client);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn write(path: PathBuf, text: &str) -> String {
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A server that takes nothing but TLS, and the user `shop` with a certificate only if `client`.
fn server(authority: &Authority, client: bool) -> Server {
    Server::start_with(|data: &Path| {
        let (certificate, key) = authority.issue(&["127.0.0.1"], None);
        write(data.join("server.crt"), &certificate);
        write(data.join("server.key"), &key);
        write(data.join("root.crt"), &authority.pem);
        let ssl = "ssl = on\nssl_ca_file = 'root.crt'\n";
        let settings = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
        std::fs::write(data.join("postgresql.conf"), settings + ssl).unwrap();
        let how = if client { "cert" } else { "trust" };
        let rules = format!(
            "hostssl all shop 127.0.0.1/32 {how}\nhostssl all shop ::1/128 {how}\n\
             hostssl all other 127.0.0.1/32 trust\n"
        );
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    })
}

async fn connect(settings: &str) -> Result<Postgres, String> {
    let store = Postgres::connect(settings, Config::default()).await;
    store.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_reached_with_tls_and_judged_as_is_asked() {
    let (authority, stranger) = (Authority::new("Outlast"), Authority::new("Stranger"));
    let server = server(&authority, false);
    let folder = tempfile::tempdir().unwrap();
    let root = write(folder.path().join("root.pem"), &authority.pem);
    let other = write(folder.path().join("other.pem"), &stranger.pem);
    let url = server.database("tls");
    let named = url.replace("127.0.0.1", "localhost");

    for mode in ["", "?sslmode=prefer", "?sslmode=require"] {
        connect(&format!("{url}{mode}")).await.unwrap();
    }
    let encrypted = "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity \
                     USING (pid) WHERE datname = 'tls'";
    let held = connect(&url).await.unwrap();
    assert_eq!(server.query(&url, encrypted), "t");
    drop(held);
    let plain = connect(&format!("{url}?sslmode=disable")).await;
    assert!(plain.unwrap_err().contains("no encryption"));

    let with =
        |url: &str, mode: &str, root: &str| format!("{url}?sslmode={mode}&sslrootcert={root}");
    for mode in ["require", "verify-ca", "verify-full"] {
        connect(&with(&url, mode, &root)).await.unwrap();
        let refused = connect(&with(&url, mode, &other)).await.unwrap_err();
        let mend = "name the root of its certificate with sslrootcert=FILE";
        assert!(
            refused.contains("UnknownIssuer") && refused.contains(mend),
            "{mode}: {refused}"
        );
    }
    // The certificate is for the address and not for the name.
    connect(&with(&named, "verify-ca", &root)).await.unwrap();
    let refused = connect(&with(&named, "verify-full", &root))
        .await
        .unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
    // The system knows nothing of this authority.
    assert!(
        connect(&format!("{url}?sslmode=verify-full"))
            .await
            .is_err()
    );
    let words = format!(
        "host=127.0.0.1 port={} user=shop dbname=tls sslmode=verify-full sslrootcert='{root}'",
        server.port
    );
    connect(&words).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_its_certificate() {
    let authority = Authority::new("Outlast");
    let server = server(&authority, true);
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.issue(&[], Some("shop"));
    let certificate = write(folder.path().join("shop.pem"), &certificate);
    let key = write(folder.path().join("shop.key"), &key);
    let url = format!("postgres://shop@127.0.0.1:{}/postgres", server.port);
    let refused = connect(&url).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    let shown = format!("{url}?sslmode=require&sslcert={certificate}&sslkey={key}");
    connect(&shown).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_when_it_is_required() {
    let server = Server::start();
    let url = server.database("plain");
    connect(&url).await.unwrap();
    let refused = connect(&format!("{url}?sslmode=require")).await;
    assert!(refused.unwrap_err().contains("does not support TLS"));
}
