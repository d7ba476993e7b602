"""Texts on which a new graph is compared with what it was made from."""

SAMPLES = (
    "A penstock carries water under pressure to the turbine.",
    "Kafka keeps records in partitions; each record has an offset.",
    "Qdrant stores points: a vector, an id and a payload.",
    "Das Wasser fließt durch das Fallrohr zur Turbine.",
    "Ponovno pošalji dokument čim se ključ promijeni.",
    "水は水圧管を通ってタービンへ流れる。",
    "الماء يجري عبر الأنبوب إلى التوربين",
    "def commit(offset: int) -> None: ...",
    "yes",
    "1234567890 !?",
    " ".join(["The pressure rises with the height of the fall, and so does the speed."] * 6),
    " ".join(["index"] * 100),
)
