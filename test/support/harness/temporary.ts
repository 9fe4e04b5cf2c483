import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** Creates a directory that is removed when the test ends. */
export function temporaryDir(name = 'copal-test'): string {
  const dir = mkdtempSync(join(tmpdir(), `${name}-`))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}
