import { findLabelledSecrets } from './labelled-secrets.ts'
import { findPrivateKeys } from './private-keys.ts'
import { matchSpans, type Span } from './span.ts'
import { findVendorSecrets } from './vendor-secrets.ts'

/**
 * Our own keys, and formats that vendors document and the rules of secretlint do not have, or have narrower; each with a
 * part that a text must have to be searched.
 */
const FORMATS: readonly (readonly [part: string, pattern: RegExp])[] = [
  // API keys and admin keys of copal, and secrets of nodes, `<node id>:<64 hex>`, which are no `sha256:<digest>`.
  ['sk-copal-', /(?<![A-Za-z0-9_-])sk-copal-[A-Za-z0-9_-]{16,}/g],
  ['copal-admin-', /(?<![A-Za-z0-9_-])copal-admin-[A-Za-z0-9_-]{16,}/g],
  [
    '',
    /:(?<=[A-Za-z0-9._-]:)(?<!(?<![A-Za-z0-9])(?:sha|blake|md|digest|hash|oid|checksum|etag|mask|sig)[A-Za-z0-9._-]{0,8}:)([0-9a-f]{64})(?![0-9A-Za-z])/g,
  ],
  // Keys and tokens with a prefix. Words have no digits.
  ['', /(?<![A-Za-z0-9_-])(?:sk|pk|rk)[-_](?=[A-Za-z_-]{0,100}\d)[A-Za-z0-9_-]{16,}/g],
  [
    '',
    /(?<![A-Za-z0-9_])(?:gh[opsur]|hf|npm|glpat|gl[a-z]{2,5}|github_pat|shpat|shpss|dop_v1|doo_v1|dor_v1|sbp|pscale_tkn|pscale_pw|rubygems|lin_api|ntn|secret|figd|xai|gsk|nvapi|pplx|fw|r8)[-_](?=[A-Za-z_-]{0,100}\d)[A-Za-z0-9_.-]{20,}/g,
  ],
  ['xox', /(?<![A-Za-z0-9_-])xox[abeoprs]-[A-Za-z0-9-]{10,}/g],
  ['xapp-', /(?<![A-Za-z0-9_-])xapp-\d-[A-Za-z0-9-]{10,}/g],
  ['', /(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}(?![0-9A-Za-z])/g],
  ['AIza', /(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])/g],
  ['GOCSPX-', /(?<![A-Za-z0-9_-])GOCSPX-[A-Za-z0-9_-]{20,}/g],
  ['ya29.', /(?<![A-Za-z0-9_-])ya29\.[A-Za-z0-9_-]{20,}/g],
  ['1//0', /(?<![A-Za-z0-9_/-])1\/\/0[A-Za-z0-9_-]{30,}/g],
  ['Q~', /(?<![A-Za-z0-9_~.-])[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~.-])/g],
  // 64 bytes in base64: keys of Azure storage. Digests name their algorithm, as `sha512-…`.
  ['==', /(?<![A-Za-z0-9+/_-]|integrity["']?[:=] ?["'])[A-Za-z0-9+/]{86}==(?![A-Za-z0-9=])/g],
  [':AA', /(?<![A-Za-z0-9])\d{8,10}:AA[A-Za-z0-9_-]{32,33}(?![A-Za-z0-9_-])/g],
  ['', /(?<![A-Za-z0-9])(?:SK|AC)[0-9a-f]{32}(?![0-9A-Za-z])/g],
  ['key-', /(?<![A-Za-z0-9_-])key-[0-9a-f]{32}(?![0-9A-Za-z])/g],
  ['-us', /(?<![A-Za-z0-9])[0-9a-f]{32}-us\d{1,2}(?![0-9A-Za-z])/g],
  ['sq0', /(?<![A-Za-z0-9_-])sq0[a-z]{3}-[A-Za-z0-9_-]{22,50}/g],
  ['pypi-', /(?<![A-Za-z0-9_-])pypi-[A-Za-z0-9_-]{32,}/g],
  ['', /(?<![A-Za-z0-9_-])(?:NRAK|PMAK|HRKU|ATATT3|ATCTT3|ATBB|AKCp)-?[A-Za-z0-9_=-]{20,}/g],
  ['sntry', /(?<![A-Za-z0-9_-])(?:sntrys|sntryu)_[A-Za-z0-9+/=_-]{30,}/g],
  ['dp.', /(?<![A-Za-z0-9_-])dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9._-]{30,}/g],
  ['dt0', /(?<![A-Za-z0-9_-])dt0[a-z]\d\d\.[A-Z0-9]{24}\.[A-Z0-9]{64}/g],
  ['.atlasv1.', /(?<![A-Za-z0-9_-])[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,}/g],
  ['pat', /(?<![A-Za-z0-9_-])pat[A-Za-z0-9]{14}\.[0-9a-f]{64}/g],
  ['AGE-SECRET-KEY-1', /(?<![A-Za-z0-9_-])AGE-SECRET-KEY-1[0-9A-Z]{50,60}/g],
  ['SG.', /(?<![A-Za-z0-9_-])SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}/g],
  ['hv', /(?<![A-Za-z0-9_-])hv[sbr]\.[A-Za-z0-9_-]{24,}/g],
  // JSON Web Tokens, signed and encrypted.
  ['eyJ', /(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,3}/g],
  // Addresses that are a secret.
  [
    'https://hooks.slack',
    /https:\/\/hooks\.slack(?:-gov)?\.com\/(?:services|workflows|triggers)\/([A-Za-z0-9/_-]{20,})/g,
  ],
  [
    '/webhooks/',
    /https:\/\/(?:\w{1,10}\.)?discord(?:app)?\.com\/api\/(?:v\d{1,2}\/)?webhooks\/(\d{15,20}\/[\w-]{50,90})/g,
  ],
  ['.webhook.office.com', /https:\/\/[\w-]{1,60}\.webhook\.office\.com\/webhookb2\/([\w@/-]{40,})/g],
  // Headers and user information of addresses.
  ['', /\b(?:Bearer|Basic|Token|Digest) ((?=[A-Za-z+/._~-]{0,100}\d)[A-Za-z0-9+/._~-]{16,4096}=*)/gi],
  ['', /\b(?:Bearer|Basic) ([A-Za-z0-9+/._~-]{16,4096}=*)(?![A-Za-z0-9 ])/g],
  ['://', /:\/\/([^\s/@:"'<>]{0,256}:[^\s/@"'<>]{1,256})(?=@)/g],
  // Words that recover a wallet.
  [
    '',
    /\b(?:seed|recovery|mnemonic|secret)(?: recovery)? (?:phrase|words)(?: is)?[:=]? {0,2}["']?((?:[a-z]{3,8} ){11,23}[a-z]{3,8})\b/gi,
  ],
]

/** Finds credentials: of vendors, of copal, in fields that are named like a secret, and private keys. */
export function findSecrets(text: string): Span[] {
  return [
    ...findPrivateKeys(text),
    ...findVendorSecrets(text),
    ...FORMATS.flatMap(([part, pattern]) => (text.includes(part) ? matchSpans(pattern, text) : [])),
    ...findLabelledSecrets(text),
  ]
}
