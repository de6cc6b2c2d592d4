//! TLS to a database, as far as a connection string asks for it.
//!
//! `sslmode`, `sslrootcert`, `sslcert` and `sslkey` mean what they mean to libpq: `prefer` and `require` keep
//! out who listens, and `verify-full` who pretends to be the database. They are taken out of the string
//! here, because the client knows some of them only.
//!
//! There is one provider of cryptography and no default of the process. Channel binding is not offered.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_rustls::{TlsConnector, client};

/// What a connection string says of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Asked {
    /// Takes a setting, if it is one of these.
    pub(super) fn take(&mut self, key: &str, value: &str) -> bool {
        let place = match key {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            _ => return false,
        };
        *place = Some(value.to_owned());
        true
    }

    /// What it comes to; an error names the setting or the file.
    pub(super) fn made(&self) -> Result<(SslMode, Tls), String> {
        let root = self.root.as_deref();
        let default = if root == Some("system") {
            "verify-full"
        } else {
            "prefer"
        };
        let mode = self.mode.as_deref().unwrap_or(default);
        let (ssl, checks) = match mode {
            "disable" => (SslMode::Disable, Checks::Nothing),
            "prefer" => (SslMode::Prefer, Checks::Nothing),
            // As libpq has it: roots that are named are asked.
            "require" if root.is_some() => (SslMode::Require, Checks::Root),
            "require" => (SslMode::Require, Checks::Nothing),
            "verify-ca" => (SslMode::Require, Checks::Root),
            "verify-full" => (SslMode::Require, Checks::RootAndName),
            other => {
                return Err(format!(
                    "sslmode={other} is not known: write disable, prefer, require, verify-ca or verify-full"
                ));
            }
        };
        if root == Some("system") && checks != Checks::RootAndName {
            return Err("sslrootcert=system goes with sslmode=verify-full only".to_owned());
        }
        let verifier = verifier(checks, root)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (&self.certificate, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let failed = |error: &dyn fmt::Display| format!("sslkey={key}: {error}");
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(&error))?;
                let chain = certificates("sslcert", certificate)?;
                let config = builder.with_client_auth_cert(chain, private);
                config.map_err(|error| failed(&error))?
            }
            _ => return Err("sslcert and sslkey go together: give both".to_owned()),
        };
        Ok((ssl, Tls(TlsConnector::from(Arc::new(config)))))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    Nothing,
    Root,
    RootAndName,
}

fn verifier(checks: Checks, root: Option<&str>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if checks == Checks::Nothing {
        return Ok(Arc::new(Anybody(provider())));
    }
    let mut roots = RootCertStore::empty();
    match root {
        Some(path) if path != "system" => {
            for certificate in certificates("sslrootcert", path)? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("sslrootcert={path}: {error}"))?;
            }
        }
        _ => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let mend = "the system has no root certificates: name a file with sslrootcert";
                return Err(mend.to_owned());
            }
        }
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = verifier.build().map_err(|error| error.to_string())?;
    Ok(match checks {
        Checks::Root => Arc::new(AnyName(verifier)),
        _ => verifier,
    })
}

fn certificates(setting: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn fmt::Display| format!("{setting}={path}: {error}");
    let chain = CertificateDer::pem_file_iter(Path::new(path)).map_err(|error| failed(&error))?;
    let chain: Result<Vec<_>, _> = chain.collect();
    let chain = chain.map_err(|error| failed(&error))?;
    if chain.is_empty() {
        return Err(failed(&"there is no certificate in it"));
    }
    Ok(chain)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes any certificate: nobody listens, but it may be anybody.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes a certificate that leads to a root, whatever name is in it.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        // The name is the last thing that is looked at: all else is well then.
        match self
            .0
            .verify_server_cert(certificate, between, name, ocsp, now)
        {
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Makes the TLS of connections.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Named;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Named> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Named(self.0.clone(), name))
    }
}

/// For one connection to this host.
pub(super) struct Named(TlsConnector, ServerName<'static>);

impl<S> TlsConnect<S> for Named
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let Named(connector, name) = self;
        Box::pin(async move { connector.connect(name, stream).await.map(Stream) })
    }
}

/// A connection with TLS.
pub(super) struct Stream<S>(client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
