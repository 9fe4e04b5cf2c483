import { readFileSync } from 'node:fs'

/** Returns the unread bytes that Linux buffers on the connections of some local ports. */
export function bytesInSockets(ports: readonly number[]): number {
  const wanted = new Set(ports)
  let bytes = 0
  for (const row of readFileSync('/proc/net/tcp', 'utf8').trim().split('\n').slice(1)) {
    const [, local = '', remote = '', , queues = ''] = row.trim().split(/\s+/)
    if (![local, remote].some((address) => wanted.has(hex(address.split(':')[1])))) continue
    for (const queue of queues.split(':')) bytes += hex(queue)
  }
  return bytes
}

function hex(digits = ''): number {
  return Number.parseInt(digits, 16)
}
