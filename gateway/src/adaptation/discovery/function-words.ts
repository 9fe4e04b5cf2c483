import { cat, ces, dan, deu, eng, fin, fra, hun, ita, nld, nob, pol, porBr, ron, spa, swe } from 'stopword'

/** English words that the library's list of the most frequent ones leaves out. */
const MORE_ENGLISH = [
  'above again against alone already although always among away back became become becomes below best better cannot done',
  'down during either else enough even ever every far few first further get gets given gives going gone good great hers',
  'herself himself however including itself just keep kept know last later least less let long looked made makes making may',
  'means mine myself neither new next none nor not nothing off old once one ones others ours ourselves own per perhaps put',
  'quite rather said say says see seen set several shall soon than themselves thereby thing things think though thought three',
  'thus till together too took toward towards two until upon use used uses using went whatever when whether whom whose why',
  'will within without yes yet yourself yours don didn doesn isn wasn won ain',
]
  .join(' ')
  .split(' ')

/** Function words of the languages whose letters may stand in a domain's name, without accents. */
const LISTS = [
  [...eng, ...MORE_ENGLISH],
  cat,
  ces,
  dan,
  deu,
  fin,
  fra,
  hun,
  ita,
  nld,
  nob,
  pol,
  porBr,
  ron,
  spa,
  swe,
].map((words) => new Set(words.map((word) => word.normalize('NFKD').replaceAll(/\p{M}/gu, '').toLowerCase())))

/** A list counts when it has this share of the words that the best list has. */
const MIN_SHARE = 0.5

/**
 * Returns the words that carry grammar and no subject, in the languages that the texts are in. A language is recognised by its
 * function words; those of others are left, since "die" or "war" may be a subject in English.
 *
 * @param frequencies in how many texts each word stands
 */
export function functionWords(frequencies: ReadonlyMap<string, number>): Set<string> {
  const counts = LISTS.map((list) =>
    [...frequencies].reduce((sum, [word, count]) => sum + (list.has(word) ? count : 0), 0),
  )
  const most = Math.max(...counts)
  return new Set(LISTS.flatMap((list, at) => (counts[at]! >= MIN_SHARE * most ? [...list] : [])))
}
