import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { splitIntoTexts } from './text-file.ts'

const TEXT_CHARACTERS = 1500
/**
 * How much of the rest is imported: what one update takes, and a quarter more, which is held out. More would start further
 * updates by itself, of text that is nobody's traffic.
 */
const IMPORT_CHARACTERS = 60_000
/** How much of the bundled text becomes the general holdout: about 5,000 tokens, which two cores score in some 20 s. */
const HOLDOUT_CHARACTERS = 20_000

/**
 * Returns two disjoint parts of the bundled text, each of both books: what the first update imports, and what it holds out.
 *
 * @param root the checkout
 */
export function splitBundledText(root: string): { texts: string[]; heldOut: string[] } {
  const text = readFileSync(join(root, 'infra', 'local', 'start', 'texts', 'general.txt'), 'utf8')
  const all = splitIntoTexts(text, TEXT_CHARACTERS)
  const heldOut = pick(all, Math.round(HOLDOUT_CHARACTERS / TEXT_CHARACTERS))
  const others = all.filter((each) => !heldOut.includes(each))
  return { texts: pick(others, Math.round(IMPORT_CHARACTERS / TEXT_CHARACTERS)), heldOut }
}

/** Picks `count` texts, evenly spread over all of them. */
function pick(texts: readonly string[], count: number): string[] {
  return Array.from({ length: count }, (_, index) => texts[Math.floor((index * texts.length) / count)] ?? '')
}
