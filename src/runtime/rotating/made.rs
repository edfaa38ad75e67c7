//! New values: random passwords and keys.

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    error::Unspecified,
    rand::{self, SystemRandom},
    rsa::{self, KeySize},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair as _,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{sync::Semaphore, task};

use crate::{
    api::{Generate, KeyAlgorithm, KeyPair, Password},
    secret::SecretBytes,
};

/// Where primes are looked for, which takes a core for up to seconds. One place, whoever
/// waits for it: with more, values that are due at once would take every core from the
/// renewal of the Lease.
static APART: Semaphore = Semaphore::const_new(1);

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMade {
    /// aws-lc does not say why; nothing else can be lacking.
    #[error("the system has no randomness to give")]
    NoRandomness,
    /// A panic.
    #[error("the operator itself failed to make a key pair: see its log for where, and report that")]
    Fault,
}

impl From<Unspecified> for NotMade {
    fn from(_: Unspecified) -> Self {
        Self::NoRandomness
    }
}

/// A value and the property that it is for.
type Made = (Option<String>, SecretBytes);

/// What this rule makes for a property, and for the public key's.
///
/// # Errors
/// Where the system has no randomness to give, or by a fault.
pub(super) async fn made(rule: &Generate, property: Option<&str>) -> Result<Vec<Made>, NotMade> {
    let property = property.map(str::to_owned);
    let Some(KeyPair { algorithm, public_key_property }) = &rule.key_pair else {
        let password = rule.password.clone().unwrap_or_default();
        return Ok(vec![(property, random_password(&password)?)]);
    };
    let (private, public) = key_pair(*algorithm).await?;
    let mut all = vec![(property, private)];
    all.extend(public_key_property.clone().map(|property| (Some(property), public)));
    Ok(all)
}

/// The properties that a rule fills, in the order in which [`made`] does.
pub(super) fn properties(rule: &Generate, property: Option<&str>) -> Vec<Option<String>> {
    let public = rule.key_pair.as_ref().and_then(|pair| pair.public_key_property.clone());
    std::iter::once(property.map(str::to_owned)).chain(public.map(Some)).collect()
}

fn random_password(rule: &Password) -> Result<SecretBytes, Unspecified> {
    let alphabet = rule.alphabet().as_bytes();
    // Bytes from here on would make some characters likelier than others.
    let most = 256 - 256 % alphabet.len().clamp(1, 256);
    let length = rule.characters_in_all();
    let mut password = Vec::with_capacity(length);
    let mut random = SecretBytes::new(Vec::new());
    while password.len() < length {
        if random.is_empty() {
            let mut bytes = vec![0; 256];
            rand::fill(&mut bytes)?;
            random = SecretBytes::new(bytes);
        }
        let fair = random.expose().iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < most);
        let characters = fair.filter_map(|byte| alphabet.get(byte % alphabet.len()).copied());
        let missing = length - password.len();
        password.extend(characters.take(missing));
        random = SecretBytes::new(Vec::new());
    }
    Ok(SecretBytes::new(password))
}

/// Private and public key, PEM.
type Pair = (SecretBytes, SecretBytes);

async fn key_pair(algorithm: KeyAlgorithm) -> Result<Pair, NotMade> {
    let pair = match algorithm {
        KeyAlgorithm::Ed25519 => ed25519()?,
        KeyAlgorithm::EcdsaP256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
        KeyAlgorithm::EcdsaP384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING)?,
        KeyAlgorithm::Rsa2048 => apart(|| rsa(KeySize::Rsa2048)).await?,
        KeyAlgorithm::Rsa3072 => apart(|| rsa(KeySize::Rsa3072)).await?,
        KeyAlgorithm::Rsa4096 => apart(|| rsa(KeySize::Rsa4096)).await?,
    };
    Ok(pair)
}

/// Works on a thread that nothing else waits for.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Unspecified> + Send + 'static,
) -> Result<T, NotMade> {
    // It is never closed.
    let place = APART.acquire().await.map_err(|_| NotMade::Fault)?;
    let worked = task::spawn_blocking(move || {
        // Such work cannot be stopped: it has its place until it is done, also where
        // nobody wants the key any more.
        let _place = place;
        work()
    });
    Ok(worked.await.map_err(|_| NotMade::Fault)??)
}

fn ed25519() -> Result<Pair, Unspecified> {
    let pair = Ed25519KeyPair::generate()?;
    let private = pair.to_pkcs8v1()?;
    let public = pair.public_key().as_der()?;
    Ok((private_key(private.as_ref()), pem("PUBLIC KEY", public.as_ref())))
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Result<Pair, Unspecified> {
    let private = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref()).map_err(|_| Unspecified)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
    Ok((private_key(private.as_ref()), pem("PUBLIC KEY", public.as_ref())))
}

fn rsa(size: KeySize) -> Result<Pair, Unspecified> {
    let pair = rsa::KeyPair::generate(size)?;
    let private: Pkcs8V1Der<'_> = pair.as_der()?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
    Ok((private_key(private.as_ref()), pem("PUBLIC KEY", public.as_ref())))
}

fn private_key(der: &[u8]) -> SecretBytes {
    pem("PRIVATE KEY", der)
}

fn pem(label: &str, der: &[u8]) -> SecretBytes {
    // As large as it gets, so that growing leaves no copies behind.
    let mut text = Vec::with_capacity(der.len() * 3 / 2 + 128);
    text.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    // 48 bytes are a line of 64 characters.
    for line in der.chunks(48) {
        let encoded = SecretBytes::new(STANDARD.encode(line).into_bytes());
        text.extend_from_slice(encoded.expose());
        text.push(b'\n');
    }
    text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    SecretBytes::new(text)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
    };

    use aws_lc_rs::error::Unspecified;
    use futures::future::join_all;
    use tokio::{sync::oneshot, task::yield_now};

    use super::{NotMade, apart, made, properties, random_password};
    use crate::api::{Generate, KeyAlgorithm, KeyPair, Password};

    fn rule(algorithm: KeyAlgorithm) -> Generate {
        let key_pair = Some(KeyPair { algorithm, public_key_property: Some("public".to_owned()) });
        Generate { secret_key: "KEY".to_owned(), password: None, key_pair }
    }

    fn password(length: Option<i32>, characters: Option<&str>) -> String {
        let rule = Password { length, characters: characters.map(str::to_owned) };
        String::from_utf8(random_password(&rule).expect("randomness").expose().to_vec()).expect("text")
    }

    #[test]
    fn a_password_has_its_length_and_no_other_characters_and_no_two_are_alike() {
        let made: BTreeSet<_> = (0..50).map(|_| password(None, None)).collect();
        assert_eq!(made.len(), 50);
        assert!(made.iter().all(|one| one.len() == 32 && one.chars().all(|one| one.is_ascii_alphanumeric())));
        let digits = password(Some(1000), Some("0123456789"));
        assert_eq!(digits.len(), 1000);
        for digit in '0'..='9' {
            let count = digits.chars().filter(|one| *one == digit).count();
            // Five standard deviations.
            assert!((50..150).contains(&count), "{digit} comes {count} times");
        }
    }

    #[tokio::test]
    async fn a_key_pair_fits_together_whatever_its_algorithm() {
        use KeyAlgorithm::{EcdsaP256, EcdsaP384, Ed25519, Rsa2048};
        for algorithm in [Ed25519, EcdsaP256, EcdsaP384, Rsa2048] {
            let rule = rule(algorithm);
            let all = made(&rule, Some("private")).await.expect("a pair");
            let names: Vec<_> = all.iter().map(|(property, _)| property.clone()).collect();
            assert_eq!(names, properties(&rule, Some("private")));
            let text = |index: usize| String::from_utf8(all[index].1.expose().to_vec()).expect("PEM");
            // Another library makes the public key of the private one.
            let pair = rcgen::KeyPair::from_pem(&text(0)).expect("a private key");
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(lines(&text(1)), lines(&pair.public_key_pem()), "{algorithm:?}");
        }
    }

    #[tokio::test]
    async fn p6_other_work_of_the_same_thread_goes_on_while_an_rsa_key_is_made() {
        let rule = rule(KeyAlgorithm::Rsa4096);
        let mut making = pin!(made(&rule, None));
        let mut turns = 0;
        let all = loop {
            tokio::select! {
                biased;
                all = &mut making => break all,
                () = yield_now() => turns += 1,
            }
        };
        assert_eq!(all.expect("a pair").len(), 2);
        assert!(turns > 0, "nothing else had a turn");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn p6_rsa_keys_are_made_one_at_a_time_for_whomever() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let one = || {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(apart(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                (0..1000).for_each(|_| thread::yield_now());
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }))
        };
        for done in join_all((0..8).map(|_| one())).await {
            done.expect("a task").expect("work");
        }
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn p6_who_goes_away_leaves_no_place_for_a_second_key_before_the_first_is_made() {
        let (begun, begins) = oneshot::channel();
        let (go_on, waits) = mpsc::channel::<()>();
        let first = tokio::spawn(apart(move || {
            let _ = begun.send(());
            waits.recv().map_err(|_| Unspecified)
        }));
        begins.await.expect("it begins");
        first.abort();
        assert!(first.await.expect_err("nobody waits for it").is_cancelled());
        let mut second = pin!(apart(|| Ok("made")));
        for _ in 0..100 {
            assert!(futures::poll!(second.as_mut()).is_pending(), "two at once");
            yield_now().await;
        }
        go_on.send(()).expect("it still works");
        assert_eq!(second.await.expect("a place"), "made");
    }

    #[tokio::test]
    async fn a_panic_while_a_key_is_made_is_a_fault_and_the_next_is_made() {
        let fault = apart(|| -> Result<(), Unspecified> { panic!("a defect") }).await;
        assert!(matches!(fault, Err(NotMade::Fault)), "{fault:?}");
        assert_eq!(apart(|| Ok("made")).await.expect("a place"), "made");
        let lacking = apart(|| Err::<(), _>(Unspecified)).await;
        assert!(matches!(lacking, Err(NotMade::NoRandomness)), "{lacking:?}");
    }
}
