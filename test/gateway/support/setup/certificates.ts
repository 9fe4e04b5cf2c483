import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

const read = (name: string) =>
  readFileSync(resolve(import.meta.dirname, `../../../fixtures/tls/${name}.pem`), 'utf8')

/** The certificate authority of the tests. Its key was deleted, and only the tests trust it. */
export const CA = read('ca')

/** Returns a certificate of the tests and its key. */
export function pemOf(name: 'server' | 'client'): { cert: string; key: string } {
  const both = read(name)
  const key = both.indexOf('-----BEGIN PRIVATE KEY-----')
  return { cert: both.slice(0, key), key: both.slice(key) }
}
