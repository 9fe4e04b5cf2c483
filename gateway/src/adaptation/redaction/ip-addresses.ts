import { matchSpans, type Span } from './span.ts'

const IPV4 = /(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)/g
const IPV6 = /(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{0,4}|\d{1,3}(?:\.\d{1,3}){3})(?![\w:])/g

/** Finds IPv4 and IPv6 addresses. */
export function findIpAddresses(text: string): Span[] {
  return [...matchSpans(IPV6, text, isIpv6), ...matchSpans(IPV4, text, isIpv4)]
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
  return halves.length === 2 && groups >= 1 && groups <= 7 && /\d/.test(candidate)
}
