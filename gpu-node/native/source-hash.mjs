/** What the addon is made of. Plain JavaScript: the build runs before anything is installed, the loader in the node. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'

/** What of the crate goes into the binary; tests and types do not. */
const SOURCES = ['Cargo.toml', 'Cargo.lock', 'build.rs', 'src']

/**
 * SHA-256 over names and contents of what the binary is made of. The build writes it into the binary, whose
 * `sources()` tells it.
 *
 * @param {string} crate the folder with `Cargo.toml`
 * @returns {string} hexadecimal
 */
export function sourceHash(crate) {
  const hash = createHash('sha256')
  for (const path of SOURCES.flatMap((name) => filesIn(join(crate, name)))) {
    const content = readFileSync(path)
    hash.update(`${relative(crate, path).split(sep).join('/')} ${content.length}\n`).update(content)
  }
  return hash.digest('hex')
}

function filesIn(path) {
  try {
    return readdirSync(path, { withFileTypes: true })
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap((entry) => filesIn(join(path, entry.name)))
  } catch (error) {
    if (error.code === 'ENOTDIR') return [path]
    throw error
  }
}
