//! What guards the admin API beyond the machine: a certificate with its key, and a token. Read from files, compared when
//! somebody comes, shown to nobody.
//!
//! ```text
//! [admin] certificate_file ─┐
//!         key_file         ─┼─► Credentials, part of the plan ─► a reload that changes them changes the lock
//!         token_file       ─┘
//! ```
//!
//! They are part of the plan with all they hold, as other files are: whether a reload changes something is found
//! by comparing plans, and a file that cannot be used is a problem of the configuration and changes nothing.
//!
//! The token comes as `Authorization: Bearer TOKEN`, from programs. A browser knows only of passwords: for reading,
//! it may come as that of the user `shunt`.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use subtle::ConstantTimeEq;

/// Shortest token: what nobody guesses at a thousand tries a second.
pub const TOKEN_MIN: usize = 16;
/// Longest token, bytes.
pub const TOKEN_MAX: usize = 1024;
/// Who a browser says it is.
pub const USER: &str = "shunt";

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// It holds something else.
    #[error("it is not PEM: {0}")]
    NotPem(String),
    /// PEM, but of something else.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// TLS cannot be spoken with it.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(String),
    /// The token can be guessed, or is something else.
    #[error(
        "the token has {0} characters; at least {TOKEN_MIN} and at most {TOKEN_MAX} were expected"
    )]
    Length(usize),
    /// The token cannot be sent.
    #[error("the token has blanks, or characters that are not ASCII")]
    Characters,
}

/// A secret that is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    bearer: String,
    basic: String,
}

impl Token {
    /// The token of a file: all of it but white space around it.
    pub fn read(file: &[u8]) -> Result<Self, CredentialError> {
        let token = str::from_utf8(file).map_err(|_| CredentialError::Characters)?.trim();
        if !(TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) {
            return Err(CredentialError::Length(token.len()));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CredentialError::Characters);
        }
        let basic = base64(format!("{USER}:{token}").as_bytes());
        Ok(Self { bearer: format!("Bearer {token}"), basic: format!("Basic {basic}") })
    }

    /// Is this the header `Authorization` of somebody who has it? How long that takes says nothing of the token.
    pub fn opens(&self, authorization: &str, may_be_a_browser: bool) -> bool {
        let is = |wanted: &str| bool::from(wanted.as_bytes().ct_eq(authorization.as_bytes()));
        is(&self.bearer) | (may_be_a_browser & is(&self.basic))
    }

    /// As it is sent by programs.
    pub fn header(&self) -> &str {
        &self.bearer
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[token]")
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| char::from(DIGITS.get((bits & 63) as usize).copied().unwrap_or(b'='));
    let group = |three: &[u8]| {
        let of = |place| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        let kept = three.len() + 1;
        let digits = [18, 12, 6, 0].map(|shift| digit(bits >> shift));
        digits.into_iter().take(kept).chain(std::iter::repeat_n('=', 4 - kept)).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// Names of the files, as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those between it and the authority.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The token.
    pub token: String,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Where it is from.
    pub files: Files,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    token: Token,
}

/// The certificates of a file.
pub fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| CredentialError::NotPem(format!("{error:?}")))?;
    if read.is_empty() { Err(CredentialError::NoCertificate) } else { Ok(read) }
}

/// The key of a file.
pub fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CredentialError> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| CredentialError::NotPem(format!("{error:?}")))
}

impl Credentials {
    /// Put together, if TLS can be spoken with them.
    pub fn new(
        files: Files,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        token: Token,
    ) -> Result<Self, CredentialError> {
        let credentials = Self { files, chain, key: Arc::new(key), token };
        credentials.tls()?;
        Ok(credentials)
    }

    /// How TLS is spoken.
    pub fn tls(&self) -> Result<Arc<ServerConfig>, CredentialError> {
        let unusable = |error: rustls::Error| CredentialError::Unusable(error.to_string());
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let builder = builder.with_no_client_auth();
        let mut config =
            builder.with_single_cert(self.chain.clone(), self.key.clone_key()).map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// What is another in `new`: the key of the file, and what may be shown of it before and after.
    pub fn differences(&self, new: &Self) -> Vec<(&'static str, String, String)> {
        let (before, now) = (&self.files, &new.files);
        let rows = [
            ("certificate_file", &before.certificate, &now.certificate, self.chain == new.chain),
            ("key_file", &before.key, &now.key, self.key == new.key),
            ("token_file", &before.token, &now.token, self.token == new.token),
        ];
        let show = |(key, before, now, is_same): (&'static str, &String, &String, bool)| {
            if before != now {
                return Some((key, before.clone(), now.clone()));
            }
            (!is_same).then(|| (key, format!("{before} as it was"), format!("{now} as it is")))
        };
        rows.into_iter().filter_map(show).collect()
    }

    /// What is asked for.
    pub fn token(&self) -> &Token {
        &self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, wanted) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), wanted);
        }
    }

    #[test]
    fn a_token_opens_to_who_has_all_of_it_and_to_a_browser_where_browsers_may() {
        let token = Token::read(format!("{TOKEN}\n").as_bytes()).unwrap();
        let bearer = format!("Bearer {TOKEN}");
        // printf 'shunt:0123456789abcdef' | base64
        let basic = "Basic c2h1bnQ6MDEyMzQ1Njc4OWFiY2RlZg==";
        for (header, program, browser) in [
            (bearer.as_str(), true, true),
            (basic, false, true),
            (TOKEN, false, false),
            ("Bearer 0123456789abcde", false, false),
            ("Bearer 0123456789abcdefg", false, false),
            ("Bearer 0123456789abcdeF", false, false),
            ("", false, false),
        ] {
            assert_eq!((token.opens(header, false), token.opens(header, true)), (program, browser));
        }
        assert_eq!(token.header(), bearer);
        assert!(!format!("{token:?}").contains("0123"), "it is shown to nobody");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for (file, wanted) in [
            ("".as_bytes(), CredentialError::Length(0)),
            (b"short\n", CredentialError::Length(5)),
            (&[b'x'; TOKEN_MAX + 1], CredentialError::Length(TOKEN_MAX + 1)),
            (b"two words that are long", CredentialError::Characters),
            (&[0xff; 32], CredentialError::Characters),
        ] {
            assert_eq!(Token::read(file), Err(wanted));
        }
    }
}
