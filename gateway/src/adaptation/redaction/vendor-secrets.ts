import { rules } from '@secretlint/secretlint-rule-preset-recommend'
import type { Span } from './span.ts'

/**
 * Rules of the preset that are not used: one reads files, one lets a text switch off rules by a comment, and two replace a
 * whole address where the user and the password in it are enough.
 */
const LEFT_OUT = ['gcp', 'filter-comments', 'basicauth', 'database-connection-string'].map(
  (name) => `@secretlint/secretlint-rule-${name}`,
)
/** The fields of a rule that are used. The types of the preset are in a package that it does not bring. */
interface VendorRule {
  meta: { id: string }
  create(context: object, options: object): { file?(source: object): unknown }
}

const RULES: readonly VendorRule[] = rules
const TEXT_RULES = RULES.filter(({ meta }) => !LEFT_OUT.includes(meta.id))

/**
 * Finds the credentials of vendors by the rules of secretlint: AWS, GitHub, GitLab, Slack, Stripe, OpenAI, Anthropic, npm
 * and others. Its rules are called without its command line and its configuration, which need Node.
 */
export function findVendorSecrets(text: string): Span[] {
  const spans: Span[] = []
  // Messages name what was found. They are never made, so they cannot reach a log.
  const context = {
    sharedOptions: {},
    createTranslator: () => () => ({ message: '', messageId: '' }),
    report: ({ range: [start, end] }: { range: readonly [number, number] }) =>
      spans.push({ start: start + fieldLength(text.slice(start, end)), end }),
    ignore: () => undefined,
  }
  const source = {
    filePath: undefined,
    content: text,
    contentType: 'text',
    ext: '.txt',
    hasBOM: false,
  }
  for (const rule of TEXT_RULES) void rule.create(context, {}).file?.(source)
  return spans
}

/** Returns the length of the name before a value: some rules report `_authToken=…` or `"aws_secret_access_key": "…`. */
function fieldLength(found: string): number {
  return /^["']?[\w.-]{3,40}["']?\s{0,8}(?:=>|[:=])\s{0,8}["']?(?=[^/\s])/.exec(found)?.[0].length ?? 0
}
