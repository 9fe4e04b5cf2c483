/** The description of a setting, in which the API names values and words by backquotes. */
export function SettingText({ text }: { text: string }) {
  return (
    <>
      {text
        .split('`')
        .map((part, index) => (index % 2 === 1 ? <code key={index}>{part}</code> : inWords(part)))}
    </>
  )
}

/** The values of JSON as the page names them. */
function inWords(text: string): string {
  return text
    .replaceAll(/\bnull\b/g, 'none')
    .replaceAll(/\bTrue:/g, 'Yes:')
    .replaceAll(/\bFalse:/g, 'No:')
}
