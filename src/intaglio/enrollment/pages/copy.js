"use strict";
// Without a clipboard (plain HTTP, old browsers) the buttons stay hidden; text can be selected all the same.
if (navigator.clipboard) {
  const said = document.getElementById("said");
  for (const button of document.querySelectorAll("figure > button")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.parentElement.querySelector("code").textContent;
      try {
        await navigator.clipboard.writeText(text);
        said.textContent = "Copied.";
        button.textContent = "Copied";
      } catch {
        said.textContent = "This browser does not let the page copy. Select the text instead.";
      }
      setTimeout(() => {
        button.textContent = "Copy";
      }, 2000);
    });
  }
}
