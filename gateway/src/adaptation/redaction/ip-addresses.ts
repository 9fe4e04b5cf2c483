import { matchSpans, type Span } from './span.ts'

const IPV4 = /(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)/g
const IPV6 = /(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{0,4}|\d{1,3}(?:\.\d{1,3}){3})(?![\w:])/g

/** Addresses of nobody: loopback, any, broadcast. Four single digits are a version or the number of a section. */
const NOBODY = /^(?:127\.\d+\.\d+\.\d+|0\.0\.0\.0|255(?:\.\d+){3}|\d(?:\.\d){3}|[0:]+1?)$/

/** Finds IPv4 and IPv6 addresses, except those that every machine has. */
export function findIpAddresses(text: string): Span[] {
  return [
    ...matchSpans(IPV6, text, (candidate) => isIpv6(candidate) && !NOBODY.test(candidate)),
    ...matchSpans(IPV4, text, (candidate) => isIpv4(candidate) && !NOBODY.test(candidate)),
  ]
}

function isIpv4(candidate: string): boolean {
  return candidate.split('.').every((part) => Number(part) <= 255 && (part === '0' || !part.startsWith('0')))
}

/** Accepts eight groups, or fewer with one `::` and a digit: `12:30:45` is a time, `std::string` is code. */
function isIpv6(candidate: string): boolean {
  const last = candidate.slice(candidate.lastIndexOf(':') + 1)
  if (last.includes('.')) return isIpv4(last) && candidate.includes('::')
  const halves = candidate.split('::')
  const groups = candidate.split(':').filter(Boolean).length
  if (halves.length === 1) return groups === 8
  // `Section 1::` is no address.
  if (groups === 1 && halves[1] === '' && !/[A-Fa-f]/.test(candidate)) return false
  return halves.length === 2 && groups >= 1 && groups <= 7 && /\d/.test(candidate)
}
