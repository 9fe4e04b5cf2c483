import { readFileSync } from 'node:fs'

/** Returns `count` consecutive passages of about `characters` characters of a fixture text, cut at white space. */
export function passages(file: string, count: number, characters = 1200): string[] {
  const text = readFileSync(new URL(`../../fixtures/text/${file}`, import.meta.url), 'utf8')
  return passagesOf(text, count, characters)
}

/** As {@link passages}, of a text. */
export function passagesOf(text: string, count: number, characters: number): string[] {
  const found: string[] = []
  for (let from = 0; found.length < count;) {
    const space = text.indexOf(' ', from + characters)
    if (space < 0) throw new Error(`the text has only ${found.length} passages of ${characters} characters`)
    found.push(text.slice(from, space).trim())
    from = space + 1
  }
  return found
}
