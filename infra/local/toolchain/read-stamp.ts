import { readFileSync } from 'node:fs'

/** Returns the hash that was stored after a step that need not be repeated; undefined if there is none. */
export function readStamp(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
