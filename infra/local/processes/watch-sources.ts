import { watch } from 'node:fs'
import { join } from 'node:path'

/** Editors write a file in several steps, and a version control system many files at once. */
const SETTLE_MS = 200
const SOURCE = /\.(tsx?|css)$/

/**
 * Calls back when a TypeScript file or style sheet below one of the folders was changed and no other change has followed for a moment.
 *
 * @param onChange receives the path of the file that changed last
 */
export function watchSources(
  folders: readonly string[],
  signal: AbortSignal,
  onChange: (path: string) => void,
): void {
  let timer: NodeJS.Timeout | undefined
  signal.addEventListener('abort', () => clearTimeout(timer))
  for (const folder of folders) {
    watch(folder, { recursive: true, signal }, (_event, name) => {
      if (name === null || !SOURCE.test(name)) return
      clearTimeout(timer)
      timer = setTimeout(() => onChange(join(folder, name)), SETTLE_MS)
    })
  }
}
