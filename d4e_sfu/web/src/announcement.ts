/** Says a sentence to people who listen to the page instead of looking at it. */

export function announce(sentence: () => string): void {
  const region = document.getElementById("polite");
  if (region === null) return;
  // Writing the same words twice would be silent; a fresh element is always read.
  const line = document.createElement("p");
  line.textContent = sentence();
  region.replaceChildren(line);
}
