# A pair from Python. The README shows this file; a test runs it on the wheel.
from pathlib import Path

from dualdnn.data.examples import open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.window import TimeFraction
from dualdnn.distillation.objective import Objective
from dualdnn.export.student import export_student
from dualdnn.layers.cross import CrossNetwork
from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.models.dual_dnn import DualDNN, StudentTower
from dualdnn.models.student import Student
from dualdnn.models.teacher import Teacher
from dualdnn.schema import schema_from_dict
from dualdnn.training.measure import measure
from dualdnn.training.settings import DenseOptimizerSettings, TrainingSettings
from dualdnn.training.table_optimizer import TableOptimizerSettings
from dualdnn.training.train_step import TrainStep
from dualdnn.training.trainer import Trainer

schema = schema_from_dict({"name": "my_feed", "label": "click", "timestamp": "ts", "fields": [
    {"name": "user", "kind": "id", "side": "user"},
    {"name": "item", "kind": "id", "side": "item", "min_count": 2},
    {"name": "tags", "kind": "ids", "side": "item", "max_length": 3},
    {"name": "age", "kind": "number", "side": "user", "buckets": 10}]})
lake = Lake(Path("feed"))  # feed/dt=2024-01-01/*.parquet, feed/dt=2024-01-02/*.parquet, ...
data = open_examples(lake=lake, schema=schema, window=TimeFraction(), state=Path("state"))

embedding = SharedEmbedding(schema=data.schema, table_rows=data.row_map.table_rows,
                            embedding_dim=8, initial_stddev=0.01, linear=True, seed=1,
                            name="shared")
teacher = Teacher(interactions=[CrossNetwork(num_layers=2, seed=1, name="cross")],
                  hidden_units=[64, 32], seed=1)
student = StudentTower(network=Student(hidden_units=[16], seed=1, name="light"),
                       embedding=embedding,
                       objective=Objective(soft_label_weight=1.0, temperature=2.0))
model = DualDNN(embedding=embedding, teacher=teacher, students=[student])

train_step = TrainStep(model=model, size=data.training_size, averaging=True,
                       table_settings=TableOptimizerSettings(l2=1.0), dense_settings={
                           "teacher": DenseOptimizerSettings(learning_rate=1e-3),
                           "light": DenseOptimizerSettings(learning_rate=3e-3)})
trainer = Trainer(train_step=train_step, examples=data, seed=1, folder=Path("checkpoints"),
                  settings=TrainingSettings(epochs=3, batch_size=64))
trainer.run()

towers, _ = measure(model, trainer.best, data, data.split.test)
print({tower: round(numbers["auc"], 4) for tower, numbers in towers.items()})
exported, answers = export_student(model=model, best=trainer.best, examples=data, lake=lake,
                                   student="light", folder=Path("exported_models/my_feed_dev"),
                                   manifest={})
print(exported.path, answers[0])
