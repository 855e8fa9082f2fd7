// The page has its words in English and Chinese; its style shows one of them. Tips, labels of charts and the title have
// the Chinese ones in `data-zh`.
const button = document.querySelector("button.language");
const speak = (language) => {
  const root = document.documentElement;
  if (root.lang === language) return;
  root.lang = language;
  for (const element of document.querySelectorAll("[data-zh]")) {
    const name = element.hasAttribute("aria-label") ? "aria-label" : "title";
    const [shown, other] = [element.getAttribute(name) ?? element.textContent, element.dataset.zh];
    if (element.hasAttribute(name)) element.setAttribute(name, other);
    else element.textContent = other;
    element.dataset.zh = shown;
  }
};
button.hidden = false;
button.addEventListener("click", () => speak(document.documentElement.lang === "en" ? "zh-CN" : "en"));
if ((navigator.language ?? "").startsWith("zh")) speak("zh-CN");
