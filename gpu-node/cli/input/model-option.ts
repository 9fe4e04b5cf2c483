import { resolve } from 'node:path'
import { cacheFolder } from '@copal/gpu-node/platform/cache-folder.ts'
import type { Terminal } from '../output/terminal.ts'

/**
 * Returns where a command finds a model that it opens itself: the source, with its path made absolute, and the cache.
 */
export function modelLocation(
  spec: string,
  { cwd, env }: Pick<Terminal, 'cwd' | 'env'>,
): { model: string; cacheDir: string } {
  const isPath = !/^[a-z]+:/.test(spec)
  return {
    model: isPath ? resolve(cwd, spec) : spec,
    cacheDir: cacheFolder(env),
  }
}
