/**
 * Control characters, characters that change the direction of text, and others that show nothing. Left out are what scripts and emoji
 * need inside words: joiners and variation selectors.
 */
const UNSEEN =
  /(?![\p{Join_Control}\p{Variation_Selector}])[\p{Cc}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}\u2028\u2029]/gu

/** As {@link UNSEEN}, without line feeds and tabs. */
const UNSEEN_IN_LINES = new RegExp(`(?![\\n\\t])${UNSEEN.source}`, 'gu')

/**
 * Replaces characters that are not seen but change what is: names and texts of others could move the cursor of a terminal, show the
 * rest of a row backwards, or look like another name.
 *
 * @param options.lines keeps line feeds and tabs, for text of several lines
 */
export function visibleText(text: string, replacement: string, options: { lines: boolean }): string {
  return text.replaceAll(options.lines ? UNSEEN_IN_LINES : UNSEEN, replacement)
}
