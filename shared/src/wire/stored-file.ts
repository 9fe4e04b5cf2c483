/** The gateway's responses to uploads of nodes. They name what was stored, so that no other server's page is taken for one. */
import { z } from 'zod'
import { sha256Hex } from './identifiers.ts'

/** Response to an upload of a mask file, a part of one, or a piece of statistics. */
export const storedFile = z.object({ sha256: sha256Hex })

/** The gateway's response to a file that it has stored. */
export type StoredFile = z.output<typeof storedFile>

/** Response to the manifest of a statistics artifact. */
export const storedArtifact = z.object({ artifact: sha256Hex })

/** The gateway's response to the last file of an artifact. */
export type StoredArtifact = z.output<typeof storedArtifact>
