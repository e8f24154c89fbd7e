// stories.h: the laboratory's own text, for when no data set is at hand.
//
// A seed gives a small children's story; millions of seeds give millions of stories, the same ones on every machine
// (integers only, no libc but <stddef.h> and <stdint.h>). The stories teach what the pairs below ask.
//
//      char text[2048];
//      size_t length = story_write(seed, text, sizeof text);   // the length needed, as snprintf's
//
//      char good[256], bad[256];
//      story_pair(seed, STORY_REFLEXIVE, good, bad, sizeof good);
//
// A pair is a sentence and its minimal corruption, made BLiMP's way: one word differs, or two neighbours are swapped. A
// model that has learned the grammar gives the good one the higher probability:
//
//      The girls by the bridges were kind.               The girls by the bridges was kind.
//      Soon the grandmother told herself to be brave.    Soon the grandmother told himself to be brave.
//      Mark found these socks beside the trees.          Mark found this socks beside the trees.
//      Mark lifted the red bowl behind the house.        Mark lifted the bowl red behind the house.
//
// Singular and plural, he and she, this and these are right equally often, so neither length nor word frequency decides.
//
// HELD OUT. No sentence of a pair, good or bad, is in any story. Both come from the same four functions (>>sentences), and
// each of those first draws the words that carry the content: (subject, predicate), (subject, reflexive verb),
// (verb, adjective, object). A hash of these reserves one combination in eight; stories redraw until theirs is free, pairs
// until theirs is reserved. Number, attractor, tense and order are not hashed, so all the variants of a reserved sentence
// are kept back with it. The plots (>>plots) write no sentence of these shapes on their own.
//
// A story (seed 243):
//
//      This is Lucy. She is a gentle girl. She lives near the lake and likes to sing.
//
//      One day, Lucy and her friend Ella went to the lake. They wanted to look for treasure. The woman beside the
//      bridges dried herself in the sun. Then dark clouds came, and it rained and rained.
//
//      "Now we can't look for treasure!" said Lucy. They ran home through the rain. Their feet were wet, and they
//      felt very sad. "I have an idea," said Ella. "We can play inside!"
//
//      So they dried themselves with towels and looked for treasure under the beds. Her grandma brought them warm
//      milk. It was the best game of all. "I like these rainy days," said Lucy.
//
//      A rainy day can be a happy day.
//
// Contents: >>words  >>plots  >>machine  >>sentences  >>api
#ifndef STORIES_H
#define STORIES_H

#include <stddef.h>
#include <stdint.h>

#define STORY_KIND_LIST(X) \
    X(STORY_SUBJECT_VERB, "subject_verb_agreement") \
    X(STORY_REFLEXIVE,    "reflexive_agreement") \
    X(STORY_DETERMINER,   "determiner_noun_agreement") \
    X(STORY_WORD_ORDER,   "word_order")

#define STORY_KIND_ENUM(id, name) id,
enum { STORY_KIND_LIST(STORY_KIND_ENUM) STORY_KINDS };
#undef STORY_KIND_ENUM

// ---------------------------------------------------------------------------------------------------------------- >>words
// Sets are strings of letters; two things go together when their strings share one.
//   places  p park  g garden  f farm  b beach  w woods  s school  l lake  m market  y playground  h hill  v village  r river
//   traits  h human  a animal  s sings  f flies  w swims  r runs  t toy  e eaten  n found in nature  c clothes  o household
//           p plant

#define STORY_EVERYWHERE "pgfbwslmyhvr"
#define STORY_COUNT(table) ((int)(sizeof(table) / sizeof *(table)))

enum { STORY_HE, STORY_SHE, STORY_IT, STORY_THEY };

typedef struct { const char *one, *many, *traits, *where; } story_noun;
typedef struct { const char *at, *to, *name, *letter; } story_place;
typedef struct { const char *word, *fits; } story_adjective;
typedef struct { const char *one, *many, *rest, *fits; } story_action;      // agrees: sings, sing
typedef struct { const char *verb, *rest, *fits; } story_reflexive_verb;    // past, the reflexive stands between the two
typedef struct { const char *past, *base; int moves; } story_handling;      // moves: to the tree, else near the tree
typedef struct { const char *kind; int sex; } story_relative;

static const char *const story_girls[] = {
    "Lily", "Mia", "Anna", "Rosie", "Emma", "Zoe", "Clara", "Ella", "Nina", "Ruby", "Sara", "Amy",
    "Lucy", "Molly", "Ivy", "Grace", "Hannah", "Kate", "Maya", "Nora", "Olga", "Tina", "Uma", "Vera",
};
static const char *const story_boys[] = {
    "Ben", "Tim", "Sam", "Max", "Leo", "Jack", "Noah", "Finn", "Adam", "Carl", "Dan", "Eli",
    "Fred", "Hugo", "Ian", "Jake", "Kai", "Luke", "Mark", "Nick", "Oscar", "Paul", "Ravi", "Theo",
};
static const char *const story_pet_names[] = {      // for animals that are heroes, he or she
    "Pip", "Dot", "Biscuit", "Pepper", "Button", "Clover", "Hazel", "Nibbles", "Tuft", "Acorn", "Bramble", "Misty",
};
static const char *const story_hero_animals[] = {
    "rabbit", "mouse", "bear", "fox", "hedgehog", "squirrel", "turtle", "kitten", "puppy", "lamb", "badger", "otter",
};
static const story_relative story_relatives[] = {
    {"mom", STORY_SHE}, {"dad", STORY_HE}, {"grandma", STORY_SHE}, {"grandpa", STORY_HE}, {"aunt", STORY_SHE},
    {"uncle", STORY_HE},
};

static const story_place story_places[] = {
    {"in the park",       "to the park",       "park",       "p"},
    {"in the garden",     "to the garden",     "garden",     "g"},
    {"on the farm",       "to the farm",       "farm",       "f"},
    {"at the beach",      "to the beach",      "beach",      "b"},
    {"in the forest",     "into the forest",   "forest",     "w"},
    {"at school",         "to school",         "school",     "s"},
    {"at the lake",       "to the lake",       "lake",       "l"},
    {"at the market",     "to the market",     "market",     "m"},
    {"at the playground", "to the playground", "playground", "y"},
    {"on the hill",       "to the hill",       "hill",       "h"},
    {"in the village",    "to the village",    "village",    "v"},
    {"by the river",      "to the river",      "river",      "r"},
};

static const story_noun story_people[] = {          // men, women, then those of either sex
    {"boy",         "boys",         "h", STORY_EVERYWHERE}, {"man",         "men",          "h", STORY_EVERYWHERE},
    {"grandfather", "grandfathers", "h", STORY_EVERYWHERE}, {"fisherman",   "fishermen",    "h", "blr"},
    {"girl",        "girls",        "h", STORY_EVERYWHERE}, {"woman",       "women",        "h", STORY_EVERYWHERE},
    {"grandmother", "grandmothers", "h", STORY_EVERYWHERE}, {"lady",        "ladies",       "h", "pgmvh"},
    {"child",       "children",     "h", STORY_EVERYWHERE}, {"teacher",     "teachers",     "h", "spy"},
    {"farmer",      "farmers",      "h", "fmvh"},           {"painter",     "painters",     "h", "pbhlr"},
    {"neighbor",    "neighbors",    "h", "gv"},
};
enum { STORY_MEN = 4, STORY_WOMEN = 4 };       // the men lead story_people, then the women

static const story_noun story_animals[] = {
    {"bird",      "birds",       "asf", STORY_EVERYWHERE}, {"robin",     "robins",      "asf", "pgwsyv"},
    {"sparrow",   "sparrows",    "asf", "psmyv"},          {"butterfly", "butterflies", "f",   "pgwh"},
    {"bee",       "bees",        "f",   "pgfh"},           {"owl",       "owls",        "af",  "wfh"},
    {"seagull",   "seagulls",    "af",  "b"},              {"duck",      "ducks",       "afw", "pflr"},
    {"swan",      "swans",       "afw", "plr"},            {"goose",     "geese",       "afw", "flrv"},
    {"frog",      "frogs",       "aw",  "gwlr"},           {"turtle",    "turtles",     "aw",  "blr"},
    {"otter",     "otters",      "aw",  "lr"},             {"dog",       "dogs",        "awr", STORY_EVERYWHERE},
    {"puppy",     "puppies",     "ar",  "pgfbyv"},         {"cat",       "cats",        "ar",  "pgfsmyv"},
    {"kitten",    "kittens",     "ar",  "gfmv"},           {"rabbit",    "rabbits",     "ar",  "gfwh"},
    {"squirrel",  "squirrels",   "ar",  "pwsy"},           {"mouse",     "mice",        "ar",  "fwms"},
    {"fox",       "foxes",       "ar",  "wh"},             {"horse",     "horses",      "ar",  "fhv"},
    {"pony",      "ponies",      "ar",  "fhv"},            {"goat",      "goats",       "ar",  "fhv"},
    {"lamb",      "lambs",       "ar",  "fh"},             {"cow",       "cows",        "a",   "fh"},
    {"pig",       "pigs",        "ar",  "f"},              {"hen",       "hens",        "a",   "fgv"},
    {"hedgehog",  "hedgehogs",   "a",   "gw"},
};

static const story_noun story_objects[] = {
    {"ball",       "balls",        "t", STORY_EVERYWHERE}, {"kite",       "kites",        "t", "pbhyl"},
    {"doll",       "dolls",        "t", STORY_EVERYWHERE}, {"drum",       "drums",        "t", STORY_EVERYWHERE},
    {"puzzle",     "puzzles",      "t", "psmyv"},          {"puppet",     "puppets",      "t", STORY_EVERYWHERE},
    {"robot",      "robots",       "t", "psmy"},           {"wagon",      "wagons",       "t", "pgfyv"},
    {"toy boat",   "toy boats",    "t", "pblr"},           {"toy car",    "toy cars",     "t", "psyv"},
    {"toy train",  "toy trains",   "t", "psm"},            {"teddy bear", "teddy bears",  "t", STORY_EVERYWHERE},
    {"book",       "books",        "o", STORY_EVERYWHERE}, {"cup",        "cups",         "o", STORY_EVERYWHERE},
    {"bowl",       "bowls",        "o", "gfmv"},           {"plate",      "plates",       "o", "gmvs"},
    {"spoon",      "spoons",       "o", "gmvs"},           {"bucket",     "buckets",      "o", "gfblrvh"},
    {"basket",     "baskets",      "o", "pgfbmhv"},        {"blanket",    "blankets",     "o", "pgbhlr"},
    {"lamp",       "lamps",        "o", "smv"},            {"clock",      "clocks",       "o", "smv"},
    {"bell",       "bells",        "o", "fsmv"},           {"box",        "boxes",        "o", "gfsmv"},
    {"key",        "keys",         "o", STORY_EVERYWHERE}, {"coin",       "coins",        "o", "pmvbyr"},
    {"pencil",     "pencils",      "o", "s"},              {"crayon",     "crayons",      "o", "sy"},
    {"umbrella",   "umbrellas",    "o", "pbsmv"},          {"hat",        "hats",         "c", STORY_EVERYWHERE},
    {"shoe",       "shoes",        "c", STORY_EVERYWHERE}, {"sock",       "socks",        "c", "gsmyv"},
    {"coat",       "coats",        "c", "psmhv"},          {"scarf",      "scarves",      "c", "psmhyv"},
    {"mitten",     "mittens",      "c", "psyhv"},          {"dress",      "dresses",      "c", "m"},
    {"apple",      "apples",       "e", "pgfsmhv"},        {"pear",       "pears",        "e", "pgfsmhv"},
    {"peach",      "peaches",      "e", "gfmv"},           {"plum",       "plums",        "e", "gfmhv"},
    {"orange",     "oranges",      "e", "psbmy"},          {"cookie",     "cookies",      "e", STORY_EVERYWHERE},
    {"bun",        "buns",         "e", STORY_EVERYWHERE}, {"pancake",    "pancakes",     "e", "gfv"},
    {"strawberry", "strawberries", "e", "gfmwh"},          {"cherry",     "cherries",     "e", "pgfmv"},
    {"shell",      "shells",       "n", "blr"},            {"stone",      "stones",       "n", "pgfbwlhr"},
    {"feather",    "feathers",     "n", "pgfbwlhr"},       {"leaf",       "leaves",       "n", "pgwsyhlr"},
    {"acorn",      "acorns",       "n", "pwhs"},           {"stick",      "sticks",       "n", "pgfwlyhr"},
    {"flower",     "flowers",      "p", "pgfwshlvr"},      {"rose",       "roses",        "p", "pgv"},
    {"daisy",      "daisies",      "p", "pgfhyr"},         {"tulip",      "tulips",       "p", "pgmv"},
};

static const story_noun story_marks[] = {           // what things stand near
    {"tree",      "trees",      "m", "pgfwslyhvr"},  {"bush",     "bushes",    "m", "pgwyhlr"},
    {"bench",     "benches",    "m", "pgsylvr"},  {"gate",     "gates",     "m", "pgfsyv"},
    {"pond",      "ponds",      "m", "pgfw"},  {"fountain", "fountains", "m", "pgmv"},
    {"wall",      "walls",      "m", "pgfsmvyh"},  {"fence",    "fences",    "m", "pgfsyh"},
    {"shed",      "sheds",      "m", "gf"},  {"barn",     "barns",     "m", "f"},
    {"haystack",  "haystacks",  "m", "f"},  {"tractor",  "tractors",  "m", "f"},
    {"well",      "wells",      "m", "fv"},  {"house",    "houses",    "m", "gfvhlb"},
    {"shop",      "shops",      "m", "mvb"},  {"cart",     "carts",     "m", "mvf"},
    {"stall",     "stalls",     "m", "m"},  {"table",    "tables",    "m", "sm"},
    {"desk",      "desks",      "m", "s"},  {"door",     "doors",     "m", "sv"},
    {"window",    "windows",    "m", "sv"},  {"bus",      "buses",     "m", "sm"},
    {"swing",     "swings",     "m", "ypg"},  {"slide",    "slides",    "m", "yp"},
    {"sandbox",   "sandboxes",  "m", "yp"},  {"boat",     "boats",     "m", "blr"},
    {"bridge",    "bridges",    "m", "plrwv"},  {"rock",     "rocks",     "m", "bwlhr"},
    {"log",       "logs",       "m", "wlhr"},  {"cave",     "caves",     "m", "wbh"},
    {"tent",      "tents",      "m", "bwlhm"},  {"hut",      "huts",      "m", "wlbhr"},
    {"tower",     "towers",     "m", "hbv"},  {"statue",   "statues",   "m", "pvm"},
};

static const char *const story_near[] = {"near", "behind", "beside", "next to", "by"};

static const story_adjective story_looks[] = {      // of things, before the noun and after "is"
    {"red",    "tco"},    {"blue",  "tco"},    {"green",   "tco"}, {"yellow",   "tco"}, {"purple", "tco"},
    {"pink",   "tcp"},    {"white", "cpn"},    {"big",  "tcoenp"}, {"small", "tcoenp"}, {"old",    "tco"},
    {"new",    "tco"},    {"pretty", "tcopn"}, {"tiny",  "tonep"}, {"lovely",  "tcop"}, {"gray",   "tco"},
    {"smooth", "n"},      {"brown", "nc"},     {"sweet",   "e"},   {"perfect",  "ep"},  {"soft",   "ec"},
    {"tasty",  "e"},      {"round", "n"},      {"strange", "ton"}, {"ordinary", "on"},
};
static const story_adjective story_states[] = {     // of the living, after "is"
    {"happy",    "ha"}, {"tired",  "ha"}, {"hungry",  "haf"}, {"sleepy", "ha"}, {"thirsty", "ha"}, {"quiet", "haf"},
    {"friendly", "ha"}, {"busy",   "hf"}, {"sad",     "ha"},  {"kind",   "h"},  {"brave",   "ha"}, {"proud", "h"},
    {"excited",  "h"},  {"ready",  "h"},  {"polite",  "h"},   {"cold",   "ha"}, {"safe",    "haf"}, {"calm", "ha"},
    {"clever",   "ha"}, {"late",   "h"},  {"pretty",  "f"},   {"gentle", "ha"}, {"hot",     "ha"},
};
static const story_action story_actions[] = {
    {"sings",   "sing",   "every morning",      "hs"}, {"sings",  "sing",  "a pretty song",        "hs"},
    {"flies",   "fly",    "over the trees",     "f"},  {"flies",  "fly",   "away at night",        "f"},
    {"flies",   "fly",    "around all day",     "f"},  {"swims",  "swim",  "in the water",         "w"},
    {"swims",   "swim",   "every day",          "w"},  {"runs",   "run",   "very fast",            "hr"},
    {"jumps",   "jump",   "up and down",        "hr"}, {"plays",  "play",  "in the sun",           "ha"},
    {"plays",   "play",   "every day",          "ha"}, {"sleeps", "sleep", "in the shade",         "ha"},
    {"sleeps",  "sleep",  "all night",          "a"},  {"likes",  "like",  "the sun",              "haf"},
    {"likes",   "like",   "warm days",          "haf"}, {"loves", "love",  "the spring",           "haf"},
    {"eats",    "eat",    "a lot",              "ha"}, {"wants",  "want",  "more food",            "ha"},
    {"wants",   "want",   "to play",            "ha"}, {"wants",  "want",  "a long nap",           "ha"},
    {"does",    "do",     "not like the cold",  "haf"}, {"does",  "do",    "not bite",             "a"},
    {"does",    "do",     "not like loud noises", "ha"}, {"knows", "know", "the way home",         "ha"},
    {"knows",   "know",   "a funny song",       "h"},  {"needs",  "need",  "some water",           "hap"},
    {"needs",   "need",   "a little help",      "ha"}, {"has",    "have",  "many friends",         "ha"},
    {"has",     "have",   "fun every day",      "h"},  {"has",    "have",  "a warm home",          "ha"},
    {"works",   "work",   "very hard",          "hf"}, {"helps",  "help",  "everyone",             "h"},
    {"tells",   "tell",   "funny stories",      "h"},  {"dances", "dance", "very well",            "h"},
    {"laughs",  "laugh",  "a lot",              "h"},  {"smiles", "smile", "at everyone",          "h"},
    {"gets",    "get",    "up early",           "ha"}, {"goes",   "go",    "home at night",        "ha"},
    {"looks",   "look",   "very nice",          "tcop"}, {"looks", "look", "too small",            "toce"},
    {"smells",  "smell",  "good",               "ep"}, {"tastes", "taste", "very good",            "e"},
    {"belongs", "belong", "to the teacher",     "tco"}, {"belongs", "belong", "to a little girl",  "tc"},
    {"grows",   "grow",   "in the sun",         "p"},  {"makes",  "make",  "everyone smile",       "tp"},
    {"is",      "are",    "for the party",      "tep"}, {"costs", "cost",  "a lot of money",       "tc"},
};
static const story_reflexive_verb story_reflexive_verbs[] = {
    {"washed",    "in the cool water",   "a"},  {"washed",    "before lunch",        "ha"},
    {"dried",     "in the sun",          "ha"}, {"warmed",    "in the sun",          "ha"},
    {"hid",       "in the tall grass",   "a"},  {"hid",       "under a blanket",     "h"},
    {"hurt",      "on a sharp stone",    "ha"}, {"hurt",      "a little",            "ha"},
    {"saw",       "in the water",        "ha"}, {"saw",       "in the mirror",       "h"},
    {"looked at", "in the mirror",       "h"},  {"looked at", "in the water",        "ha"},
    {"cleaned",   "after the rain",      "ha"}, {"kept",      "warm",                "ha"},
    {"kept",      "safe",                "ha"}, {"kept",      "busy",                "h"},
    {"dressed",   "for the cold day",    "h"},  {"taught",    "a new song",          "h"},
    {"taught",    "to whistle",          "h"},  {"told",      "to be brave",         "h"},
    {"told",      "a funny story",       "h"},  {"asked",     "a hard question",     "h"},
    {"made",      "a warm drink",        "h"},  {"enjoyed",   "very much",           "h"},
    {"laughed at", "for a while",        "h"},  {"felt proud of", "at last",         "h"},
    {"took care of", "all day",          "ha"}, {"believed in", "again",             "h"},
    {"covered",   "with dry leaves",     "a"},  {"shook",     "after the rain",      "a"},
    {"stretched", "in the shade",        "ha"}, {"drew a picture of", "at the table", "h"},
};
static const char *const story_finding[] = {        // past verbs that take this and these, those and that
    "found", "liked", "saw", "took", "wanted", "loved", "noticed", "touched", "picked up", "looked at", "carried", "hid",
    "held", "brought", "dropped", "chose",
};
static const story_handling story_handlings[] = {
    {"carried", "carry", 1}, {"took", "take", 1}, {"brought", "bring", 1}, {"moved", "move", 1}, {"returned", "return", 1},
    {"put",     "put",   0}, {"hid",  "hide", 0}, {"dropped", "drop",  0}, {"placed", "place", 0}, {"lifted", "lift", 0},
    {"touched", "touch", 0}, {"held", "hold", 0},
};
static const char *const story_modals[] = {"could", "had to", "wanted to", "tried to", "began to"};
static const char *const story_times[] = {"", "", "", "Then ", "Soon ", "At noon, ", "That day, ", "After lunch, "};

// ---------------------------------------------------------------------------------------------------------------- >>plots
// Text is written as it reads, with these marks:
//   {a|b|}  one of them                                       &    a or an, by the word that follows
//   `       a double quote                                    \n   a new paragraph
//   $ hero  @ friend  % relative, each with n name (her mom) N Name  e he E He  m him  r his R His  f himself  k kind K Kind
//                i I the friend's name, with "his friend" where nobody has met the friend yet
//   # the world: o toy j its look  f food F foods  c creature C creatures  l m landmarks  w place t to it p at it
//                s hero's nature  v pastime  h happy u unhappy  d this old cup, those cups  1..4 the plot's own twist
//                x an aside of the hero's  y one between the two friends
//   = a sentence without its full stop: s present w past statement, t this cup is old, r reflexive, d determiner, o order
// Only the = sentences may have the shape of a pair.

static const char *const story_openings[] = {
    "Once upon a time, there was & #s $k named $n. $E lived near the #w.",
    "Once upon a time, there was & #s $k. {$R name was $n.|Everyone called $m $n.}",
    "This is $n. $E is & #s $k. $E lives near the #w and {likes|loves} to #v.",
    "In a {small|little|quiet} house near the #w, there lived & #s $k named $n.",
    "{$n was & #s $k.|There was once & #s $k named $n.} $E lived near the #w with $r %k.",
    "There are many #C #p. $n, & #s $k, {loved|liked} to watch them. =s.",
    "{Long ago|A long time ago|Many years ago}, & #s $k named $n lived near the #w.",
    "Everyone near the #w knows $n. $E is & #s $k, and $e {likes|loves} to #v.",
    "$n and @n are {good|best|old} friends. They live near the #w. They {like|love} to #v {together|all day}.",
};
static const char *const story_details[] = {
    "$E had & #j #o.",
    "$E {loved|liked} to #v. =s.",
    "$E had {a friend|a good friend|a best friend} named @n.",
    "{Every day|Every morning|On warm days}, $e watched the #C near the #l. =s.",
    "$R %k always said, `{Be kind|Be brave|Work hard|Be patient}, $n.`",
    "$R favorite things were #O and #F.",
    "`=s,` $r %k often said.",
    "",
};

static const char *const story_fears[][4] = {       // of what, to do what, how it goes
    {"the dark",     "walk in the dark",          "The dark was only quiet and calm"},
    {"deep water",   "swim to the boat",          "The water was cool and clear"},
    {"high places",  "climb the tall ladder",     "The view was beautiful"},
    {"loud noises",  "play the big drum",         "The sound was funny, not scary"},
    {"big dogs",     "pat the big dog",           "The dog wagged its tail"},
    {"thunder",      "watch the storm",           "The thunder sounded like a big drum"},
    {"new people",   "say hello to the new teacher", "The teacher had a warm smile"},
    {"spiders",      "clean the old attic",       "The spiders stayed in their corner"},
};
static const char *const story_crafts[][4] = {      // what, from what, how it fails, how it works
    {"a kite",         "paper and string",       "It fell to the ground",          "It flew high above the trees"},
    {"a cake",         "flour, milk and eggs",   "It was flat and hard",           "It was soft and sweet"},
    {"a raft",         "wood and rope",          "It sank in the water",           "It floated on the water"},
    {"a tower",        "wooden blocks",          "It fell down with a crash",      "It stood tall and straight"},
    {"a pot of soup",  "carrots and potatoes",   "It tasted like salt",            "It tasted warm and good"},
    {"a little house", "sticks and leaves",      "The wind blew it away",          "It stood strong in the wind"},
    {"a swing",        "a board and some rope",  "The rope broke",                 "The rope was strong this time"},
    {"a crown",        "gold paper and glue",    "It came apart",                  "It looked bright and grand"},
};
static const char *const story_troubles[][4] = {    // it was ..., they ..., soon it ...
    {"was stuck in the mud",            "pulled it out of the mud",        "was free"},
    {"was caught in a net",             "cut the net with care",           "was free"},
    {"was cold and wet",                "put a warm towel around it",      "felt warm"},
    {"had a hurt foot",                 "cleaned the foot and covered it", "felt well"},
    {"was lost and very hungry",        "gave it food and water",          "felt strong"},
    {"was shut in an empty shed",       "opened the door",                 "was free"},
};
static const char *const story_gifts[][4] = {       // what, how it is made, what the relative does
    {"a picture",       "painted the sky, the sun and a big tree",  "put it on the wall"},
    {"a card",          "drew a big heart and many stars",          "read it two times"},
    {"a song",          "practiced the words again and again",      "clapped and clapped"},
    {"a bunch of wild flowers", "picked them one by one",           "put them in a glass of water"},
    {"a paper star",    "cut it out and painted it gold",           "hung it over the door"},
    {"a necklace",      "put small beads on a string",              "wore it all day"},
};
static const char *const story_seeds[][4] = {       // what grows
    {"a tall sunflower", "sunflower", "It was taller than the fence"},
    {"a big pumpkin",    "pumpkin",   "It was as round as the moon"},
    {"a small apple tree", "apple tree", "It had white blossoms"},
    {"an orange carrot", "carrot",    "It was long and sweet"},
    {"a red tomato",     "tomato",    "It was warm from the sun"},
};
static const char *const story_games[][4] = {       // outside, inside
    {"have a picnic",     "had a picnic on the floor",             "picnic"},
    {"play ball",         "rolled a ball down the long hall",      "game"},
    {"look for treasure", "looked for treasure under the beds",    "game"},
    {"go on a long walk", "built a train with chairs and rode to the sea", "trip"},
    {"sleep in a tent",   "made a tent with sheets and pillows",   "tent"},
    {"sail a boat",       "sailed a paper boat in the bath",       "boat"},
};
static const char *const story_chores[][4] = {      // the problem, the help, the thanks
    {"I can't carry these heavy bags alone",  "took two bags and carried them up the stairs", "gave $m a warm roll"},
    {"I can't find my glasses",               "looked under every chair and at last found them",
     "told $m a story about the sea"},
    {"I can't reach the apples in this tree", "climbed up and filled the basket",             "baked an apple pie for $m"},
    {"I can't sweep all these leaves alone",  "swept until the path was clear",
     "made a cup of hot cocoa for $m"},
    {"I can't paint this long fence alone",   "took a brush and painted until evening",       "gave $m a paint box"},
    {"I can't find my little dog",            "called and called until the dog came running", "hugged $m for a long time"},
};
static const char *const story_things[][4] = {      // what breaks, how, and how it is mended
    {"vase",   "fell from the shelf and broke",      "glued the pieces together"},
    {"cup",    "slipped to the floor and broke",     "swept up the pieces"},
    {"chair",  "cracked and lost a leg",             "nailed the leg back on"},
    {"lamp",   "hit the floor and cracked",          "taped the lamp with care"},
    {"teapot", "rolled off the table and broke",     "glued the handle back on"},
};

typedef struct {
    const char *heroes, *where;                     // h: children, a: animals too
    const char *begin, *middle, *end, *moral;
    const char *const (*twists)[4]; int n_twists;
} story_plot;

static const story_plot story_plots[] = {
{ "ha", STORY_EVERYWHERE,                           // something is lost
  "$n had & #j #o and took it everywhere. One {sunny|warm|bright|windy} day, $e took the #o #t. {=o. |}{#x |=d. |=w. |}{$n "
  "ran and jumped until noon.|$n played there for a long time.} When it was time to go home, the #o was gone.",
  "`{Where is my #o?|Oh no! I have lost my #o!}` $n {cried|said}. $E looked {behind the #l|near the #l}, but it was not "
  "there. $n {felt #u and sat down|felt #u}. {=w. |=r. |}Then @i came. `{Don't cry|Don't worry}, $n. We will find it "
  "together,` said @n.",
  "They looked {high and low|everywhere|again and again}. {=r. |=d. |=w. |}At last, @n {looked behind the #m|stopped next "
  "to the #m}. `Look! Is that your #o?` @e asked. {It was!|Yes, it was the #j #o!} $n {hugged|thanked} @n. `{Thank "
  "you|Thank you so much}, @n!` $e said.",
  "{It is easier to find things together.|A good friend helps when we are sad.|Two friends can find what one has lost.}",
  0, 0 },
{ "ha", STORY_EVERYWHERE,                           // something is shared
  "One {day|morning|afternoon}, %n gave $n {three|four|five|six} #F. `These #F are for you,` %e said. $n took them #t. {#x "
  "|}@I was {there, too|sitting near the #l}. @E had nothing to eat.",
  "`May I have one of {those|your} #F?` asked @n. `No, these #F are mine,` said $n. @n {looked down|felt #u} and {said "
  "nothing|walked away}. {=w. |=d. |=o. |}$n ate one #f, but it did not taste good alone.",
  "So $n {ran|went} to @n. `I am sorry. This #f is for you, and that #f is for me,` $e said. @n {smiled|laughed}. They sat "
  "{near the #m|in the shade|on the ground} and ate {slowly|together|side by side}. {#y |}Now {the food tasted sweet|both "
  "were #h}.",
  "{Food tastes better when friends share it.|To share is to be happy two times.|Those who share are never alone.}",
  0, 0 },
{ "h", STORY_EVERYWHERE,                            // an animal in trouble
  "One {day|morning|cold day|windy day}, $n {went|walked} #t. {#x |}$n heard a {soft|sad|small} sound {behind|near} the #l. "
  "It was a little #c! It #1.",
  "`{Poor little #c|Do not be afraid, little #c}. I will help you,` $n {said|whispered}. $E did not know {how|what to do}, "
  "so $e ran to $r %k. `%K, please come {quickly|with me}!`",
  "%N came at once. They #2. Soon the #c #3. `You were {gentle|kind|brave}, $n,` said %n. {=w. |}After that, the #c {came "
  "to see $m every day|followed $m everywhere|was never far from $m}.",
  "{Even small hands can help.|Be kind to all animals, big and small.|It is wise to ask for help.}",
  story_troubles, STORY_COUNT(story_troubles) },
{ "h", STORY_EVERYWHERE,                            // a fear
  "$n was afraid of #1. {#x |}One day, @i said, `Come and #2 with me!` $n shook $r head. `I can't. I am {scared|too "
  "afraid},` $e said.",
  "{That evening|Later}, $n told $r %k about it. `Everyone is afraid of something,` said %n. `When I was little, I was "
  "afraid of #1, too. {Take a deep breath|Count to ten|Take one small step at a time}, and you will see.`",
  "The next day, $n {went back to|met} @n. {=r. |=d. |=o. |#y |}$n {closed $r eyes|took a deep breath|counted to ten}. Then "
  "$e began to #2. #3. `I did it!` $n {shouted|cried|called}. @n {clapped|cheered}, and %n was very proud.",
  "{To be brave is to try even when you are afraid.|A fear grows small when we look at it.|One small step can make us "
  "brave.}",
  story_fears, STORY_COUNT(story_fears) },
{ "h", STORY_EVERYWHERE,                            // the truth
  "$R %k had & {old|white|blue|pretty} #1. One {rainy|quiet|sunny} {morning|afternoon}, $n {danced|jumped around|ran "
  "around} near it. {Crash!|Bang!|Oh no!} The #1 #2.",
  "$n {hid behind the door|ran to $r room|sat under the table}. $R heart beat fast. {=r. |}`What happened to my #1?` asked "
  "%n. {$n wanted to say that the cat did it, but that was not true.|$n did not want to tell a lie.}",
  "`I did it. I am so sorry,` $n said{, and $e began to cry|}. %N {was quiet for a moment|looked at the #1}, but then %e "
  "{gave $m a hug|smiled at $m}. `Thank you for telling me the truth,` %e said. Then they #3. {Later, they went #t. #x |}$n "
  "felt #h again.",
  "{It is always best to tell the truth.|The truth can be hard to say, but it makes the heart light.|We can fix things when "
  "we are honest.}",
  story_things, STORY_COUNT(story_things) },
{ "ha", STORY_EVERYWHERE,                           // something is made
  "One {day|morning|afternoon}, $n wanted to make #1. $E found #2 and {began at once|went to work}. {#x |}",
  "But it was {hard|not easy|harder than it looked}. #3. $n felt #u. `I {will never do it|give up},` $e said. `{Try again, "
  "but go slowly|Try one more time}. I will sit with you,` said $r %k.",
  "So $n tried {again|one more time}. {=r. |=d. |}$n worked {all afternoon|until evening|with care}. At last, it was done. "
  "#4! `Look, %K! I made it!` $n {shouted|called}. {$E felt #h.|%N was very proud of $m.}",
  "{Those who try again will do it in the end.|Never give up too soon.|Good work takes time.}",
  story_crafts, STORY_COUNT(story_crafts) },
{ "ha", "pgfbwlhr",                                 // rain
  "One {day|morning|Sunday|Saturday}, $n and @i went #t. They wanted to #1. {#y |=w. |=d. |=r. |}Then {the sky turned "
  "gray|dark clouds came}, and it {began to rain|rained and rained}.",
  "`Now we can't #1!` said $n. They ran home{ through the rain|}. Their {feet|clothes} were wet, and they {felt #u|were "
  "cold}. {=w. |}`{I have an idea|We do not need the sun},` said @n. `We can play inside!`",
  "So they {dried themselves with towels and |}#2. %N {brought them warm milk|came in and played, too}. It was the best #3 "
  "of all. `I {like|love} these rainy days,` said $n.",
  "{A rainy day can be a happy day.|When one door closes, look for another.|Friends can have fun in any weather.}",
  story_games, STORY_COUNT(story_games) },
{ "hx", "sy",                                       // someone new; x: the friend is a stranger at first
  "One {day|morning}, a new @k came #t. @R name was @n. @n did not know anyone, so @e {sat alone|stood alone} {near|by} the "
  "#l. {#x |}",
  "$n saw @m and {remembered $r own first day|felt sorry for @m}. $E walked over. `{Hello|Hi}! My name is $n. {Would you "
  "like to|Do you want to} play with {me|this #o|these #O}?` `{Yes, please|I would like that},` said @n {quietly|with a "
  "small smile}.",
  "They {played|ran and laughed|told jokes} next to the #m until {the bell rang|it was late}. {#y |=r. |=o. |}The next day, "
  "@n {waited for $m at the door|ran to $m at once}. {=d. |#y |}Now they are {good|best} friends, and they play together "
  "every day.",
  "{A kind word can start a friendship.|A new friend may be only one hello away.|Everyone needs a friend.}",
  0, 0 },
{ "ha", STORY_EVERYWHERE,                           // a quarrel
  "One {day|morning|afternoon}, $n and @i were playing #p. {#y |=w. |=d. |}$n's %k gave them & #j #o. Both of them wanted "
  "it. `It is my turn!` said $n. `No, it is mine!` said @n.",
  "They {pulled and pulled|shouted at each other}. {Then the #o fell into the mud.|Then the #o fell to the ground.} They "
  "looked at {it|each other} and {felt #u|were ashamed of themselves}. {=w. |}`What is {the matter|wrong}?` asked %n. They "
  "told %m everything.",
  "`You can take turns,` said %n. `First @n, then $n.` So they cleaned the #o and took turns. {=o. |=r. |}`This is more "
  "fun,` said @n. They {laughed|played} until {the sun went down|dinner}.",
  "{It is better to take turns than to fight.|No toy is worth more than a friend.|Those who take turns have the most fun.}",
  0, 0 },
{ "h", STORY_EVERYWHERE,                            // a gift
  "It was {almost|nearly} the birthday of $r %k. $n had no money. {#x |}`What can I give %m?` $e asked @i. `You can give %m "
  "#1,` said @n. `%E will love it.`",
  "So $n went to work. $E #2. {=r. |=w. |}It took {all day|a long time|the whole evening}, {but $e did not stop|and then it "
  "was ready}.",
  "In the morning, $n said, `Happy birthday, %K! I have #1 for you.` %N {smiled from ear to ear|laughed with joy}. %E #3. "
  "`{This is the best gift of all|I love it},` %e said. $n {felt #h|was #h}.",
  "{A gift from the heart is the best gift.|Love costs no money.|Small gifts can bring great joy.}",
  story_gifts, STORY_COUNT(story_gifts) },
{ "h", "pgmvhsf",                                   // a neighbor
  "One {day|morning|afternoon}, $n was on $r way #t. {#x |}Near the #l, $e met old Mrs. {Bell|Green|Stone}. {She looked "
  "tired.|She looked worried.} `#1,` she said.",
  "$n wanted to {play|see @i}. {But then $e thought about the old woman.|But the old woman needed $m.} `I will help you,` "
  "$e said. {=r. |}",
  "$n #2. {=w. |}The old woman was so {happy|glad} that she #3. `{Thank you|You are very kind}, $n,` she said. $n "
  "{walked|went|ran} home with a {smile|song|light heart}.",
  "{When we help others, we feel happy, too.|Kind hands are never empty.|There is always time to help.}",
  story_chores, STORY_COUNT(story_chores) },
{ "ha", "pwfyhlrbs",                                // a race
  "One {day|morning|sunny day}, there was a big race #p. $n and @i wanted to win. {#y |=w. |=r. |=d. |}`I am the fastest,` "
  "said @n. `We will see,` said $n.",
  "`Ready, set, go!` called %n. They ran {past|around} the #L and {past|behind} the #m. $n was {in front|first}. Then $e "
  "heard a cry. @n was on the ground, and @r leg hurt. {=w. |}",
  "$n {stopped|turned around} and ran back. `Take my hand,` $e said. They walked to the end together. They were last, but "
  "everyone {clapped|cheered}. `You are a {true|real|good} friend,` said @n.",
  "{A friend is worth more than a prize.|To win is good, but to help is better.|Those who help others always win.}",
  0, 0 },
{ "ha", "pgfhvsrw",                                 // a seed
  "One {spring day|spring morning|warm day}, %n gave $n a tiny seed. $n planted it in the ground near the #l. {#x |}`It "
  "needs water, sun and time,` said %n.",
  "Every day, $n {gave it water|watered it}. But nothing happened. {=w. |=s. |=d. |}`Why does it not grow?` $e asked. `{Be "
  "patient|Wait}, $n,` said %n. `{Good things take time|Seeds are slow}.`",
  "Then, one morning, there was a small green leaf. {=r. |=d. |=o. |}{The plant grew and grew|It grew a little every day}. "
  "By the end of the summer, there was #1. #3! $n {danced around it|called all $r friends to see it|could not stop "
  "smiling}.",
  "{Good things come to those who wait.|Little by little, small things grow.|With care and time, much is possible.}",
  story_seeds, STORY_COUNT(story_seeds) },
{ "ha", "wmbhrlv",                                  // lost
  "One {day|morning|afternoon}, $n went #t with $r %k. {#x |}$n saw a {pretty|little|funny} #c and followed it "
  "{past|behind} the #L. {=w. |}After a while, $n looked around. Where was %n?",
  "$n could not see %m. $E {felt #u|began to cry}. {=r. |}`I must {stay calm|think},` $e said. `%K always says, 'Stay in "
  "one place when you are lost.'` So $e {sat down|stood still} next to the #m and waited.",
  "{Soon|After a long time|Before long}, $e heard a voice. `$n! $n!` It was %n! %E ran to $n and {held $m tight|gave $m a "
  "big hug}. `You did the right thing,` %e said. {Together|Hand in hand}, they walked home.",
  "{When you are lost, stay calm and wait.|It is good to listen to those who love us.|A calm head finds the way home.}",
  0, 0 },
};

static const char *const story_asides[] = {
    "=w.", "=s.", "=d.", "=d.", "=o.", "=o.", "=r.", "`=s,` $e {thought|said to $f}.", "`=t,` $e {said|said to $f}.",
    "`I {like|love} #d,` $e said.",
};
static const char *const story_talk[] = {
    "`=s,` said @n.", "`=s,` said $n. `=t,` said @n.", "`=t,` said $n.", "`Look at #d!` said @n.", "`=s,` said @n to $n.",
    "`I {like|love} #d,` said @n. `=s,` said $n.",
};
static const char *const story_endings[] = {
    "", "", "", "The end.",
    "{That night|That evening}, $n {slept well|went to bed with a smile}.",
    "$n never forgot {this|that} day.",
    "From that day on, $n was a little wiser.",
};
static const char *const story_natures[] = {
    "little", "little", "small", "young", "kind", "curious", "clever", "cheerful", "shy", "friendly", "gentle", "quiet",
    "funny",
};
static const char *const story_pastimes[] = {
    "sing", "dance", "run", "jump", "play outside", "climb trees", "count the clouds", "look at the stars", "tell stories",
    "laugh", "help others", "explore",
};
static const char *const story_happy[] = {"happy", "very happy", "glad", "warm inside", "so happy", "cheerful"};
static const char *const story_unhappy[] = {"sad", "very sad", "bad", "upset", "worried", "unhappy"};

// -------------------------------------------------------------------------------------------------------------- >>machine

typedef struct { const char *name, *kind; int sex, id; } story_character;

typedef struct {
    uint64_t state;
    char *out; size_t cap, len;
    char gap, article, fresh;           // owed before the next letter: a space, a or an; a paragraph has just begun
    int held, wrong;                    // draw reserved combinations; make the one mistake: neither changes other draws
    int met;                            // the friend has been named
    int human;                          // the hero and the friend are children, else animals
    const story_plot *plot;
    const char *const *twist;
    const story_place *place;
    story_character hero, pal, kin;   // $ @ %
    const story_noun *toy, *food, *creature, *mark[2];
    const story_adjective *look;
    const char *nature, *happy, *unhappy;
} story;

static inline uint64_t story_mix(uint64_t z) {      // splitmix64's finaliser
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline int story_below(story *s, int n) {
    s->state += UINT64_C(0x9e3779b97f4a7c15);
    return (int)((story_mix(s->state) >> 32) * (uint64_t)n >> 32);
}

#define STORY_ANY(s, table) ((table)[story_below(s, STORY_COUNT(table))])

// Whether two sets of letters meet.
static inline int story_share(const char *a, const char *b) {
    for (; *a; a++)
        for (const char *c = b; *c; c++)
            if (*a == *c) return 1;
    return 0;
}

// The words that agree with each other, as table positions: held out together, whatever stands between them.
static inline int story_reserved(int kind, int a, int b, int c) {
    uint64_t key = (uint64_t)kind << 48 | (uint64_t)a << 32 | (uint64_t)b << 16 | (uint64_t)c;
    return story_mix(key + UINT64_C(0x9e3779b97f4a7c15)) % 8 == 0;
}

static inline void story_byte(story *s, char c) {
    if (s->len + 1 < s->cap) s->out[s->len] = c;
    s->len++;
}

// Spaces wait for what follows them, so that none is doubled or trails; an article waits to see its noun.
static inline void story_char(story *s, char c) {
    if (c == ' ')  { s->gap = s->len > 0 && !s->fresh; return; }
    if (c == '\n') { s->gap = 0; s->fresh = 1; story_byte(s, '\n'); story_byte(s, '\n'); return; }
    if (s->gap) story_byte(s, ' ');
    s->gap = s->fresh = 0;
    if (s->article) {
        s->article = 0;
        story_byte(s, 'a');
        if (c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u') story_byte(s, 'n');
        story_byte(s, ' ');
    }
    story_byte(s, c == '`' ? '"' : c);
}

static inline void story_put(story *s, const char *word) {
    while (*word) story_char(s, *word++);
}

static inline void story_words(story *s, const char *a, const char *b) {
    story_put(s, a); story_char(s, ' '); story_put(s, b);
}

static inline const story_noun *story_noun_here(story *s, const story_noun *table, int n, const char *traits) {
    for (;;) {
        const story_noun *noun = &table[story_below(s, n)];
        if (story_share(noun->where, s->place->letter) && story_share(noun->traits, traits)) return noun;
    }
}

static inline const story_adjective *story_look_of(story *s, const story_noun *noun) {
    for (;;) {
        const story_adjective *look = &STORY_ANY(s, story_looks);
        if (story_share(look->fits, noun->traits)) return look;
    }
}

static inline story_character story_child(story *s, int human) {
    story_character c;
    c.sex = story_below(s, 2);
    c.id = human ? story_below(s, STORY_COUNT(story_girls)) : story_below(s, STORY_COUNT(story_pet_names));
    c.name = !human ? story_pet_names[c.id] : c.sex == STORY_HE ? story_boys[c.id] : story_girls[c.id];
    c.kind = !human ? STORY_ANY(s, story_hero_animals) : c.sex == STORY_HE ? "boy" : "girl";
    c.id = c.id * 2 + c.sex;
    return c;
}

static inline void story_start(story *s, uint64_t seed, char *out, size_t cap, int held, int wrong) {
    story_relative kin;
    int human;
    s->state = story_mix(seed + UINT64_C(0x2545f4914f6cdd1d));
    s->out = out, s->cap = cap, s->len = 0;
    s->gap = s->fresh = s->article = 0;
    s->held = held, s->wrong = wrong, s->met = 0;

    s->plot = &STORY_ANY(s, story_plots);
    s->twist = s->plot->twists ? s->plot->twists[story_below(s, s->plot->n_twists)] : 0;
    human = held || !story_share(s->plot->heroes, "a") || story_below(s, 3);
    do s->place = &STORY_ANY(s, story_places);
    while (!story_share(s->plot->where, s->place->letter) || (!human && !story_share("gfwlhr", s->place->letter)));

    s->human = human;
    s->hero = story_child(s, human);
    do s->pal = story_child(s, human); while (s->pal.id / 2 == s->hero.id / 2);
    kin = STORY_ANY(s, story_relatives);
    s->kin.kind = kin.kind, s->kin.sex = kin.sex, s->kin.name = 0, s->kin.id = 0;

    s->toy  = story_noun_here(s, story_objects, STORY_COUNT(story_objects), "t");
    s->food = story_noun_here(s, story_objects, STORY_COUNT(story_objects), "e");
    s->look = story_look_of(s, s->toy);
    s->creature = story_noun_here(s, story_animals, STORY_COUNT(story_animals), "a");
    s->mark[0] = story_noun_here(s, story_marks, STORY_COUNT(story_marks), "m");
    do s->mark[1] = story_noun_here(s, story_marks, STORY_COUNT(story_marks), "m"); while (s->mark[1] == s->mark[0]);
    s->nature = STORY_ANY(s, story_natures);
    s->happy = STORY_ANY(s, story_happy);
    s->unhappy = STORY_ANY(s, story_unhappy);
}

static const char *const story_pronouns[][4] = {    // he, him, his, himself
    {"he", "him", "his", "himself"}, {"she", "her", "her", "herself"},
    {"it", "it", "its", "itself"}, {"they", "them", "their", "themselves"},
};
static const char *const story_determiners[][2] = {{"this", "these"}, {"that", "those"}};

static inline void story_upper(story *s, const char *word) {
    story_char(s, (char)(*word - 'a' + 'A'));       // a to z are in order in ASCII, which the text is in
    story_put(s, word + 1);
}

// ------------------------------------------------------------------------------------------------------------ >>sentences
// The four constructions that pairs ask about, for stories (held == 0) and pairs alike. Each draws its content until it is
// reserved exactly when it should be; where the mistake goes, s->wrong is read. None writes its full stop.

static inline const char *story_number(const story_noun *noun, int many) { return many ? noun->many : noun->one; }

// near the trees: the attractor, whose number must not matter
static inline void story_place_phrase(story *s) {
    const char *where = STORY_ANY(s, story_near);
    const story_noun *mark = story_noun_here(s, story_marks, STORY_COUNT(story_marks), "m");
    story_char(s, ' ');
    story_words(s, where, "the ");
    story_put(s, story_number(mark, story_below(s, 2)));
}

// The girl near the trees | is happy
static inline void story_subject_verb(story *s, int past) {
    static const struct { const story_noun *table; int n; const char *traits; } classes[] = {
        {story_people,  STORY_COUNT(story_people),  "h"},
        {story_animals, STORY_COUNT(story_animals), "af"},
        {story_objects, STORY_COUNT(story_objects), "tcoenp"},
    };
    const story_noun *noun;
    const char *one, *many, *rest;
    int plural, fits, k, what, predicate;
    do {
        k = story_below(s, 3);
        noun = story_noun_here(s, classes[k].table, classes[k].n, classes[k].traits);
        what = story_below(s, 3 - past);            // a state, a look, an action
        if (what < 2) {
            const story_adjective *table = what ? story_looks : story_states;
            predicate = story_below(s, what ? STORY_COUNT(story_looks) : STORY_COUNT(story_states));
            one = past ? "was" : "is", many = past ? "were" : "are", rest = table[predicate].word;
            fits = story_share(table[predicate].fits, noun->traits);
        } else {
            predicate = story_below(s, STORY_COUNT(story_actions));
            one = story_actions[predicate].one, many = story_actions[predicate].many, rest = story_actions[predicate].rest;
            fits = story_share(story_actions[predicate].fits, noun->traits);
        }
    } while (!fits ||
             story_reserved(STORY_SUBJECT_VERB, k, (int)(noun - classes[k].table), what << 8 | predicate) != s->held);
    plural = story_below(s, 2);
    story_words(s, "The", story_number(noun, plural));
    if (story_below(s, 4)) story_place_phrase(s);
    story_char(s, ' ');
    story_words(s, plural != s->wrong ? many : one, rest);
}

// Then the boys near the house / Lily
static inline void story_when(story *s, const story_noun *noun, int many) {
    const char *when = STORY_ANY(s, story_times);
    story_put(s, when);
    if (!noun) { story_put(s, s->hero.name); return; }
    story_words(s, *when ? "the" : "The", story_number(noun, many));
    if (story_below(s, 2)) story_place_phrase(s);
}

// Lily / the boys near the house | washed | themselves | before lunch
static inline void story_reflexive(story *s) {
    static const struct { int a, b; const story_noun *table; int n; } couples[] = {     // the right word and the wrong one
        {STORY_HE,  STORY_SHE,  0, 0},
        {STORY_HE,  STORY_THEY, story_people,  STORY_MEN},
        {STORY_SHE, STORY_THEY, story_people + STORY_MEN, STORY_WOMEN},
        {STORY_IT,  STORY_THEY, story_animals, STORY_COUNT(story_animals)},
    };
    const story_noun *noun;
    const story_reflexive_verb *verb;
    int animal, right, wrong, subject;
    do {
        int k = story_below(s, 4), turn = story_below(s, 2), from = k;
        right = turn ? couples[k].b : couples[k].a, wrong = turn ? couples[k].a : couples[k].b;
        if (!s->held && !story_below(s, 3)) right = s->hero.sex;         // a story is about its hero
        if (right == s->hero.sex && story_below(s, 3)) {
            noun = 0, animal = !s->human, subject = 256 + (animal ? 64 : 0) + s->hero.id;
        } else {
            if (right == STORY_HE) from = 1;
            if (right == STORY_SHE) from = 2;
            noun = story_noun_here(s, couples[from].table, couples[from].n, from == 3 ? "a" : "h");
            animal = from == 3, subject = (int)(noun - couples[from].table) + 64 * from;
        }
        verb = &STORY_ANY(s, story_reflexive_verbs);
    } while (!story_share(verb->fits, animal ? "a" : "h") ||
             story_reserved(STORY_REFLEXIVE, subject, (int)(verb - story_reflexive_verbs), 0) != s->held);
    story_when(s, noun, right == STORY_THEY);
    story_char(s, ' ');
    story_words(s, verb->verb, story_pronouns[s->wrong ? wrong : right][3]);
    story_char(s, ' ');
    story_put(s, verb->rest);
}

// Lily / the girls by the gate | found | these | old | cups | near the wall; the mistake is in the determiner or the noun
static inline void story_determiner(story *s) {
    const story_noun *subject, *noun;
    const story_adjective *look;
    int verb, bare, many, which, in_noun;
    do {
        verb = story_below(s, STORY_COUNT(story_finding));
        noun = story_noun_here(s, story_objects, STORY_COUNT(story_objects), "tcoenp");
        look = story_look_of(s, noun);
        bare = story_below(s, 2);
    } while (story_reserved(STORY_DETERMINER, verb, (int)(noun - story_objects),
                            bare ? 255 : (int)(look - story_looks)) != s->held);
    subject = story_below(s, 3) ? 0 : story_noun_here(s, story_people, STORY_COUNT(story_people), "h");
    story_when(s, subject, story_below(s, 2));
    many = story_below(s, 2), which = story_below(s, 2), in_noun = story_below(s, 2);
    story_char(s, ' ');
    story_words(s, story_finding[verb], story_determiners[which][many != (s->wrong && !in_noun)]);
    story_char(s, ' ');
    if (!bare) story_words(s, look->word, "");
    story_put(s, story_number(noun, many != (s->wrong && in_noun)));
    if (story_below(s, 2)) story_place_phrase(s);
}

// Lily / the shy girl | wanted to | carry | the | red | ball | to | the | gate; the mistake turns two neighbours round
static inline void story_order(story *s) {
    const story_noun *thing;
    const story_adjective *look;
    const story_handling *handling;
    const char *part[12], *when = STORY_ANY(s, story_times);
    int n = 0, i, described = story_below(s, 2), modal = story_below(s, 3) == 0, first, count, verb;
    do {
        int own = !s->held && story_below(s, 4);
        thing = own ? s->toy : story_noun_here(s, story_objects, STORY_COUNT(story_objects), "tcoenp");
        look = own ? s->look : story_look_of(s, thing);
        handling = &STORY_ANY(s, story_handlings);
    } while (story_reserved(STORY_WORD_ORDER, (int)(handling - story_handlings), (int)(thing - story_objects),
                            (int)(look - story_looks)) != s->held);
    if (described) {
        const story_noun *who = story_noun_here(s, story_people, STORY_COUNT(story_people), "h");
        part[n++] = *when ? "the" : "The";
        part[n++] = s->nature;
        part[n++] = s->held ? who->one : s->hero.kind;
    } else part[n++] = s->hero.name;
    if (modal) part[n++] = STORY_ANY(s, story_modals);
    part[verb = n++] = modal ? handling->base : handling->past;
    part[n++] = "the", part[n++] = look->word, part[n++] = thing->one;
    part[n++] = handling->moves ? "to" : STORY_ANY(s, story_near);
    part[n++] = "the", part[n++] = story_noun_here(s, story_marks, STORY_COUNT(story_marks), "m")->one;

    count = 2;
    switch (story_below(s, 5)) {
        case 0:  first = verb + 2; break;                               // the ball red
        case 1:  first = verb + 1; break;                               // red the ball
        case 2:  first = verb, count = 4; break;                        // the red ball carried
        case 3:  first = modal ? verb - 1 : verb + 4; break;            // carry wanted to; the to gate
        default: first = described ? 1 : verb + 4; break;               // the girl shy
    }
    story_put(s, when);
    for (i = 0; i < n; i++) {
        int j = i;
        if (s->wrong && i >= first && i < first + count) j = i + 1 < first + count ? i + 1 : first;
        if (i) story_char(s, ' ');
        story_put(s, part[j]);
    }
}

// This cup is / these cups are | old
static inline void story_remark(story *s) {
    const story_noun *noun = story_noun_here(s, story_objects, STORY_COUNT(story_objects), "tcoenp");
    int many = story_below(s, 2);
    story_words(s, story_below(s, 2) ? (many ? "These" : "This") : (many ? "Those" : "That"), story_number(noun, many));
    story_char(s, ' ');
    story_words(s, many ? "are" : "is", story_look_of(s, noun)->word);
}

// ------------------------------------------------------------------------------------------------------------------ >>api

static inline void story_text(story *s, const char *t, const char *end);

static inline void story_tell(story *s, const char *t) {
    const char *end = t;
    while (*end) end++;
    story_text(s, t, end);
}

static inline void story_person(story *s, const story_character *c, char mark) {
    const char *const *is = story_pronouns[c->sex];
    switch (mark) {
        case 'e': story_put(s, is[0]);   break;
        case 'E': story_upper(s, is[0]); break;
        case 'm': story_put(s, is[1]);   break;
        case 'r': story_put(s, is[2]);   break;
        case 'R': story_upper(s, is[2]); break;
        case 'f': story_put(s, is[3]);   break;
        case 'k': story_put(s, c->kind); break;
        case 'K': story_upper(s, c->kind); break;
        case 'n': if (c->name) { story_put(s, c->name); break; }        // a relative is somebody's
                  story_words(s, story_pronouns[s->hero.sex][2], c->kind); break;
        case 'N': story_upper(s, story_pronouns[s->hero.sex][2]); story_words(s, "", c->kind); break;
        case 'i': case 'I':
            if (!s->met) {
                if (mark == 'I') story_upper(s, story_pronouns[s->hero.sex][2]);
                else story_put(s, story_pronouns[s->hero.sex][2]);
                story_put(s, " friend ");
            }
            s->met = 1;
            story_put(s, c->name);
            break;
        default: break;
    }
}

static inline void story_world(story *s, char mark) {
    switch (mark) {
        case 'o': story_put(s, s->toy->one);        break;
        case 'O': story_put(s, s->toy->many);       break;
        case 'j': story_put(s, s->look->word);      break;
        case 'f': story_put(s, s->food->one);       break;
        case 'F': story_put(s, s->food->many);      break;
        case 'c': story_put(s, s->creature->one);   break;
        case 'C': story_put(s, s->creature->many);  break;
        case 'l': story_put(s, s->mark[0]->one);    break;
        case 'L': story_put(s, s->mark[0]->many);   break;
        case 'm': story_put(s, s->mark[1]->one);    break;
        case 'w': story_put(s, s->place->name);     break;
        case 't': story_put(s, s->place->to);       break;
        case 'p': story_put(s, s->place->at);       break;
        case 's': story_put(s, s->nature);          break;
        case 'h': story_put(s, s->happy);           break;
        case 'u': story_put(s, s->unhappy);         break;
        case 'v': story_put(s, STORY_ANY(s, story_pastimes)); break;
        case 'x': story_tell(s, STORY_ANY(s, story_asides));  break;
        case 'y': story_tell(s, STORY_ANY(s, story_talk));    break;
        case 'd': {
            const story_noun *noun = story_noun_here(s, story_objects, STORY_COUNT(story_objects), "tcoenp");
            int many = story_below(s, 2);
            story_words(s, story_determiners[story_below(s, 2)][many], "");
            if (story_below(s, 2)) story_words(s, story_look_of(s, noun)->word, "");
            story_put(s, story_number(noun, many));
        } break;
        default: story_tell(s, s->twist[mark - '1']); break;
    }
}

static inline void story_sentence(story *s, char mark) {
    switch (mark) {
        case 's': story_subject_verb(s, 0); break;
        case 'w': story_subject_verb(s, 1); break;
        case 'r': story_reflexive(s);       break;
        case 'd': story_determiner(s);      break;
        case 'o': story_order(s);           break;
        default:  story_remark(s);          break;
    }
}

// {a|b|c}: t is behind the opening brace; says one choice and returns what is behind the closing one.
static inline const char *story_choice(story *s, const char *t) {
    const char *begin[16], *close = t;
    int n = 0, depth = 0, k;
    for (begin[n++] = t; depth || *close != '}'; close++) {
        if (*close == '{') depth++;
        if (*close == '}') depth--;
        if (*close == '|' && !depth) begin[n++] = close + 1;
    }
    begin[n] = close + 1;
    k = story_below(s, n);
    story_text(s, begin[k], begin[k + 1] - 1);
    return close + 1;
}

static inline void story_text(story *s, const char *t, const char *end) {
    while (t < end) {
        char c = *t++;
        switch (c) {
            case '{': t = story_choice(s, t);            break;
            case '&': s->article = 1; t++;               break;     // with its space
            case '$': story_person(s, &s->hero, *t++);   break;
            case '@': story_person(s, &s->pal, *t++);    break;
            case '%': story_person(s, &s->kin, *t++);    break;
            case '#': story_world(s, *t++);              break;
            case '=': story_sentence(s, *t++);           break;
            default:  story_char(s, c);                  break;
        }
    }
}

static inline void story_end(story *s) {
    if (s->cap) s->out[s->len < s->cap ? s->len : s->cap - 1] = 0;
}

static inline size_t story_write(uint64_t seed, char *out, size_t cap) {
    story s;
    const char *part;
    int stranger, paragraphs;
    story_start(&s, seed, out, cap, 0, 0);
    stranger = story_share(s.plot->heroes, "x");
    paragraphs = story_below(&s, 2);

    do part = STORY_ANY(&s, story_openings); while (stranger && story_share(part, "@"));
    story_tell(&s, part);
    s.met = story_share(part, "@");
    story_char(&s, ' ');
    if (!s.met) {
        do part = STORY_ANY(&s, story_details); while (stranger && story_share(part, "@"));
        story_tell(&s, part);
        s.met = story_share(part, "@");
    }
    story_char(&s, paragraphs ? '\n' : ' ');
    story_tell(&s, s.plot->begin);
    story_char(&s, paragraphs ? '\n' : ' ');
    story_tell(&s, s.plot->middle);
    story_char(&s, paragraphs && story_below(&s, 2) ? '\n' : ' ');
    story_tell(&s, s.plot->end);
    story_char(&s, ' ');
    if (s.len < 950 && story_below(&s, 3)) { story_char(&s, paragraphs ? '\n' : ' '); story_tell(&s, s.plot->moral); }
    story_char(&s, ' ');
    if (s.len < 800) story_tell(&s, STORY_ANY(&s, story_endings));     // 200 words are enough
    story_end(&s);
    return s.len;
}

static inline void story_pair(uint64_t seed, int kind, char *good, char *bad, size_t cap) {
    for (int wrong = 0; wrong < 2; wrong++) {
        story s;
        story_start(&s, seed, wrong ? bad : good, cap, 1, wrong);
        switch (kind) {
            case STORY_SUBJECT_VERB: story_subject_verb(&s, story_below(&s, 3) == 0); break;
            case STORY_REFLEXIVE:    story_reflexive(&s);  break;
            case STORY_DETERMINER:   story_determiner(&s); break;
            default:                 story_order(&s);      break;
        }
        story_char(&s, '.');
        story_end(&s);
    }
}

static inline const char *story_kind_name(int kind) {
#define STORY_KIND_NAME(id, name) name,
    static const char *const names[] = {STORY_KIND_LIST(STORY_KIND_NAME)};
#undef STORY_KIND_NAME
    return kind >= 0 && kind < STORY_KINDS ? names[kind] : "unknown";
}

#endif // STORIES_H
