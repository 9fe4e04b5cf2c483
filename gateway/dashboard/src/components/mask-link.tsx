import { shortMaskName } from '../format/mask-names.ts'
import { Link } from '../navigation/link.tsx'
import { paths } from '../navigation/routes.ts'

/** The number of a mask, as a link to its page; `dense` and a missing mask are no links. */
export function MaskLink({ version }: { version: number | null }) {
  if (version === null || version === 0) return <>{shortMaskName(version)}</>
  return <Link to={paths.mask(version)}>{shortMaskName(version)}</Link>
}
