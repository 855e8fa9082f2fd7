//! Phrases of lines about terms of use, privacy and cookies, for C4's rule in other languages than English. Our own
//! selection, after C4's English list.

/// Phrases in lower case, by the ISO 639-3 code of the language.
const LISTS: [(&str, &[&str]); 20] = [
    (
        "deu",
        &[
            "nutzungsbedingungen",
            "datenschutzerklärung",
            "datenschutzrichtlinie",
            "cookie-richtlinie",
            "verwendet cookies",
            "verwenden cookies",
            "verwendung von cookies",
            "nutzt cookies",
            "nutzung von cookies",
        ],
    ),
    (
        "fra",
        &[
            "conditions d'utilisation",
            "conditions d’utilisation",
            "politique de confidentialité",
            "politique de cookies",
            "utilise des cookies",
            "utilisons des cookies",
            "utilisation de cookies",
            "utilisation des cookies",
        ],
    ),
    (
        "spa",
        &[
            "términos de uso",
            "condiciones de uso",
            "política de privacidad",
            "política de cookies",
            "utiliza cookies",
            "utilizamos cookies",
            "usamos cookies",
            "uso de cookies",
        ],
    ),
    (
        "ita",
        &[
            "termini di utilizzo",
            "condizioni d'uso",
            "informativa sulla privacy",
            "utilizza cookie",
            "utilizza i cookie",
            "uso dei cookie",
            "utilizzo dei cookie",
        ],
    ),
    (
        "por",
        &[
            "termos de uso",
            "termos de utilização",
            "política de privacidade",
            "política de cookies",
            "utiliza cookies",
            "usa cookies",
            "uso de cookies",
        ],
    ),
    (
        "nld",
        &[
            "gebruiksvoorwaarden",
            "privacybeleid",
            "cookiebeleid",
            "gebruikt cookies",
            "gebruiken cookies",
            "gebruik van cookies",
        ],
    ),
    ("cat", &["condicions d'ús", "política de privacitat", "política de galetes", "utilitza galetes", "ús de galetes"]),
    ("ron", &["termeni de utilizare", "politica de confidențialitate", "folosește cookie", "utilizarea cookie"]),
    ("swe", &["användarvillkor", "integritetspolicy", "använder cookies", "använder kakor", "användning av cookies"]),
    ("dan", &["brugsbetingelser", "privatlivspolitik", "bruger cookies", "anvender cookies", "brug af cookies"]),
    ("nob", &["brukervilkår", "personvernerklæring", "bruker cookies", "bruker informasjonskapsler"]),
    ("fin", &["käyttöehdot", "tietosuojaseloste", "käyttää evästeitä", "evästeiden käyt"]),
    (
        "pol",
        &[
            "warunki korzystania",
            "polityka prywatności",
            "polityka cookies",
            "używa plików cookie",
            "korzysta z plików cookie",
        ],
    ),
    (
        "ces",
        &["podmínky použití", "zásady ochrany osobních údajů", "používá soubory cookie", "používání souborů cookie"],
    ),
    ("hun", &["felhasználási feltételek", "adatvédelmi szabályzat", "sütiket használ", "cookie-kat használ"]),
    ("tur", &["kullanım koşulları", "gizlilik politikası", "çerez politikası", "çerezleri kullan", "çerez kullan"]),
    (
        "rus",
        &[
            "условия использования",
            "пользовательское соглашение",
            "политика конфиденциальности",
            "использует файлы cookie",
            "используем файлы cookie",
            "использование файлов cookie",
        ],
    ),
    (
        "ukr",
        &["умови використання", "політика конфіденційності", "використовує файли cookie", "використання файлів cookie"],
    ),
    (
        "cmn",
        &[
            "使用条款",
            "使用條款",
            "服务条款",
            "服務條款",
            "隐私政策",
            "隱私政策",
            "隱私權政策",
            "使用cookie",
            "使用 cookie",
        ],
    ),
    (
        "jpn",
        &["利用規約", "プライバシーポリシー", "クッキーポリシー", "cookieを使用", "クッキーを使用", "cookieの使用"],
    ),
];

/// Returns the phrases of a language; `None` if there is no list.
pub(super) fn of(language: &str) -> Option<&'static [&'static str]> {
    LISTS.iter().find(|(code, _)| *code == language).map(|(_, phrases)| *phrases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_in_lower_case() {
        for (language, phrases) in LISTS {
            assert!(isolang::Language::from_639_3(language).is_some() && !phrases.is_empty());
            assert!(phrases.iter().all(|phrase| *phrase == phrase.to_lowercase() && phrase.trim() == *phrase));
        }
    }
}
